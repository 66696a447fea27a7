"""One edit at every degree: what a slider shows while it is dragged, and the true edit where it is let go.

A plan is carried out at some degrees, the nodes, a few at a time. Between them the edited latents are taken from
the straight line between two neighbours, which needs no transformer: a preview costs one decoding.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from PIL import Image
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ditlens import flow, images
from ditlens.arguments import NUMBER, ON_STEP, instance, list_of, takes
from ditlens.ems import engine
from ditlens.ems.edit import Edit, results
from ditlens.ems.engine import EngineState, SourceSide
from ditlens.ems.extract import degree_of
from ditlens.ems.methods import DeltaVelocity
from ditlens.ems.plan import Plan
from ditlens.errors import SettingError
from ditlens.flow import Latents
from ditlens.labels import outside_steps
from ditlens.lens.hooks import hooks_on

NODES = (-0.5, 0.0, 0.25, 0.375, 0.5, 0.625, 0.75, 1.0, 1.5)
"""Degrees at which a grid is made: closer together where edits jump, between 0.25 and 0.75."""

TOGETHER = 4
"""Nodes that are made in one batch: a step is short, so that a preview waits for it, and needs little memory."""

PLAN = instance(
    "a plan: the attribute plan of an edit, or ditlens.ems.plan.make_plan(model, image, ...)", Plan
)


class DegreeGrid:
    """A plan at every degree: previews at once, true edits for less than a new one costs.

    What a method evaluates at the source point holds neither the target text nor the edited image. So all nodes
    share it, and `edit` keeps it: after the first, an edit evaluates the target's side only.

    Attributes:
        plan: The plan.
        nodes: The degrees that `steps` makes, in order.
        state: The state after the last step that was made; its batch holds some nodes.

    Example:
        >>> image = model.generate("a portrait with a big smile", seed=0, steps=2)
        >>> plan = dl.edit(model, image, source_text="a red shirt", target_text="a blue shirt").plan
        >>> grid = DegreeGrid(plan, nodes=(0, 0.5, 1))
        >>> for state in grid.steps():
        ...     done = f"{state.step + 1} of {state.steps}"  # show it; leave the loop to stop
        >>> done, grid.ready
        ('18 of 18', True)
        >>> grid.preview(0.8).size
        (128, 128)
        >>> grid.edit(0.8).degree
        0.8
    """

    @takes(plan=PLAN, nodes=list_of(NUMBER, "at least two degrees, e.g. (0, 0.5, 1)"))
    def __init__(self, plan: Plan, nodes: Sequence[float] = NODES) -> None:
        self.plan = plan
        self.nodes = tuple(sorted({degree_of(node) for node in nodes}))
        if len(self.nodes) < 2:
            raise SettingError(f"nodes is {nodes!r}; give at least two degrees, e.g. (0, 0.5, 1).")
        self.state: EngineState | None = None
        # both are replaced as a whole and never changed: another thread may be reading
        self._known: dict[float, Latents] = {0.0: plan.latents} if plan.method.exact_at_0 else {}
        self._rough: dict[float, Latents] = {}  # what the last step points to, while nodes are being made
        self._missing: list[float] = []
        self._run: Iterator[EngineState] | None = None
        self._setup: Any = None
        self._kept: SourceSide | None = None  # of edits: rounded as in an edit alone
        self._shared: SourceSide = {}  # of nodes

    def __repr__(self) -> str:
        return f"DegreeGrid({len(self.nodes)} nodes, {'ready' if self.ready else 'not ready'})"

    @property
    def ready(self) -> bool:
        """Whether all nodes are made."""
        return all(node in self._known for node in self.nodes)

    def steps(self) -> Iterator[EngineState]:
        """Make the nodes step by step, `TOGETHER` at a time, those of a batch far apart.

        Stop iterating to stop; another call goes on where the last one stopped.
        """
        while not self.ready:
            if self._run is None:
                self._run = self._batch()
            try:
                self.state = state = next(self._run)
            except BaseException:  # Ctrl-C, no memory left: a run that was broken off cannot go on
                self._run = None
                raise
            if state.step + 1 < state.steps:
                self._rough = dict(zip(self._missing, state.clean.split(1), strict=True))
            else:
                self._known = dict(zip(self._missing, state.latents.split(1), strict=True)) | self._known
                self._run, self._rough = None, {}
            yield state

    def _batch(self) -> Iterator[EngineState]:
        """Begin with some of the nodes that are missing."""
        left = [node for node in self.nodes if node not in self._known]
        self._missing = left[:: math.ceil(len(left) / TOGETHER)]
        kept = self._source_side()
        if hooks_on(self.plan.model):
            return self.plan.states(self._missing, {})
        self._shared |= kept or {}
        return self.plan.states(self._missing, self._shared)

    def latents_at(self, degree: float) -> Latents:
        """The edited latents at a degree, (1, C, H, W): true where they are known, else on the line between them.

        Known are the nodes, and the degrees of all edits that `edit` made. Beyond the ends the line goes on. While
        the nodes are being made, what the last step points to stands for them.

        Raises:
            SettingError: If the degree is out of range, or no step has been made.
        """
        degree = degree_of(degree)
        points = self._rough | self._known
        if degree in points:
            return points[degree]
        if len(points) < 2:
            raise SettingError(
                "There is nothing to preview yet. Make the nodes: for state in grid.steps(): ..."
            )
        degrees = sorted(points)
        after = min(max(bisect.bisect(degrees, degree), 1), len(degrees) - 1)
        low, high = degrees[after - 1], degrees[after]
        return torch.lerp(points[low], points[high], (degree - low) / (high - low))

    def preview(self, degree: float) -> Image.Image:
        """What the edit at a degree will look like about, for the time of one decoding; errors as `latents_at`."""
        return images.to_image(self.plan.model.decode(self.latents_at(degree)))

    @takes(on_step=ON_STEP)
    def edit(self, degree: float, on_step: Callable[[EngineState], object] | None = None) -> Edit:
        """The true edit at a degree: bit for bit what `ditlens.edit` makes.

        From the second edit on, only the target's side is evaluated, where that changes no bit; see `same_alone`.
        `Edit.evaluations` counts what was evaluated.

        Args:
            degree: The degree.
            on_step: Called with the engine's state after every step; raise in it to stop.

        Raises:
            SettingError: If the degree is out of range.
        """
        degree, begun = degree_of(degree), self.plan.clock()
        state = None
        for state in self._states(degree):
            if on_step is not None:
                on_step(state)
        assert state is not None
        made = results(self.plan, [degree], state, begun)[0]
        self._known = self._known | {degree: made.latents}
        return made

    def _states(self, degree: float) -> Iterator[EngineState]:
        """The states of an edit, with the source's side of earlier ones where that is the same bit for bit."""
        kept = self._source_side()
        return in_company(self.plan.states([degree], kept)) if kept else self.plan.states([degree], kept)

    def _source_side(self) -> SourceSide | None:
        """Where edits keep the source's side; None where it would not be the same, or has to be seen."""
        model = self.plan.model
        if hooks_on(model):  # captures want to see all rows, and interventions change them
            return None
        setup = torch.get_num_threads(), model.device, model.dtype
        if setup != self._setup:
            self._setup, self._kept, self._shared = setup, {} if same_alone(self.plan) else None, {}
        return self._kept


def same_alone(plan: Plan) -> bool:
    """Whether the model computes the target's rows alone as it does beside the source's, bit for bit: it is tried.

    How a library multiplies, and so rounds, depends on the number of rows, on the processor and on the threads.
    """
    model, method = plan.model, plan.method
    if not isinstance(method, DeltaVelocity) or not method.shares_source:
        return False
    prompts = engine.plan_prompts(plan.source, plan.moved(1.0), plan.null_text, method, 1)
    x = flow.accumulator(plan.latents)
    at_q, at_p = ([(x, text) for text in texts] for texts in (prompts.at_q, prompts.at_p))
    with outside_steps():
        beside = flow.evaluate(model, 0.5, at_q + at_p)[len(at_q) :]
        with _InCompany():
            alone = flow.evaluate(model, 0.5, at_p)
    return all(map(torch.equal, beside, alone))


class _InCompany(TorchFunctionMode):
    """Computes a lone row as one of two: a single row is multiplied by another method and rounded otherwise."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (F.linear, F.conv2d) and len(args[0]) == 1 and args[0].ndim in (2, 4):
            return func(torch.cat([args[0]] * 2), *args[1:], **(kwargs or {}))[:1]
        return func(*args, **(kwargs or {}))


def in_company(states: Iterator[EngineState]) -> Iterator[EngineState]:
    """The same states, made while a lone row is computed as one of two."""
    while True:
        with _InCompany():
            state = next(states, None)
        if state is None:
            return
        yield state
