"""The image half of *manipulate*: one engine for the family of delta-velocity methods.

`ditlens.ems.methods` has the table of the methods with their equations and presets; here is the loop that
runs them. Symbols as there: source image x, edited image z, delta = z - x, noise levels t and t',
coupling eta, source point q, target point p, velocity difference Dv.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence

import torch

from ditlens import flow
from ditlens.ems.masks import check_values
from ditlens.ems.methods import DeltaVelocity, Distillation, Look
from ditlens.errors import SettingError
from ditlens.flow import Latents, Mask, Row, Text, VelocityField
from ditlens.labels import Label, announce

Step = tuple[float, Latents, Latents]
"""What a loop yields after a step: its noise level, the edited latents, and the clean latents that it points to."""

SourceSide = dict[tuple[int, int], Row]
"""v_source(q) of one item by step and draw: q holds no z, so it is the same for every target and degree."""

Loop = Callable[[VelocityField], Iterator[Step]]
"""An edit that is checked and ready: the steps that it makes with a velocity field."""


@dataclasses.dataclass(frozen=True, eq=False)
class EngineState:
    """Where an edit stands after a step.

    Attributes:
        step: Index of the step just made, 0 to steps - 1.
        steps: Number of steps that this edit takes.
        sigma: Noise level t at which the step looked.
        latents: The edited clean image z so far, (B, C, H, W).
        clean: Preview of the result, same shape: under the ode rule where Dv points to, else z itself.
        evaluations: (latents, text, sigma) triples put through the model so far, over the whole batch (NFE).
        calls: Calls of the model so far.
    """

    step: int
    steps: int
    sigma: float
    latents: Latents = dataclasses.field(repr=False)
    clean: Latents = dataclasses.field(repr=False)
    evaluations: int
    calls: int


@dataclasses.dataclass(frozen=True, eq=False)
class _Prompts:
    """Which texts a step evaluates: `at_q` at the source point, `at_p` at the target point.

    Attributes:
        at_q: [], [text] or [null, text]; empty if the method compares with the noise instead.
        at_p: [text] or [null or source text, text].
        same: (B,) bool, true for items with nothing to edit, because both velocities mean the same.
        guidance: Guidance of v_target; (B,) where the items slide.
    """

    at_q: list[Text]
    at_p: list[Text]
    same: torch.Tensor
    guidance: float | torch.Tensor


def plan_prompts(
    source: Text,
    target: Text,
    null_text: Text | None,
    method: DeltaVelocity,
    batch: int,
    slides: torch.Tensor | None = None,
) -> _Prompts:
    """Decide which texts have to be evaluated where, for a batch of items.

    Each is named by what it does, for captures: "source" at the source point, "target" at the target point,
    "source.target" the source text at the target point, "uncond" the null text, and "uncond.source" and
    "uncond.target" where both points have one.

    Raises:
        SettingError: If a text does not fit the batch, or guidance needs a null text that is missing.
    """
    at_own, source, target = source, flow.expand_text(source, batch), flow.expand_text(target, batch)
    guidance: float | torch.Tensor = method.target_guidance
    slider_at_zero: bool | torch.Tensor = method.guide_from == "source" and guidance == 0  # at_p is [source]
    if slides is not None and method.slide == "guidance":
        guidance = guidance * slides
        slider_at_zero = guidance == 0 if method.guide_from == "source" else False
    same = (flow.equal_texts(source, target) | slider_at_zero) & method.keeps_equal
    guide, at_own, target = (
        _named(text, role)
        for text, role in ((source, "source.target"), (at_own, "source"), (target, "target"))
    )
    at_q = flow.guidance_texts(at_own, null_text, method.source_guidance) if method.needs_source else []
    texts = method.target_guidance if isinstance(guidance, float | int) else 2.0  # 2: both, for all items
    embedded = flow.embedded_guidance(target, guidance)  # None, unless the model is guidance-distilled
    if method.guide_from == "source":
        if embedded is not None:  # all three velocities are of one field, also of a guidance-distilled model
            guide, target = (flow.embedded_guidance(text, method.source_guidance) for text in (guide, target))
        at_p = {0.0: [guide], 1.0: [target]}.get(texts, [guide, target])
    else:
        at_p = flow.guidance_texts(target, null_text, texts) if embedded is None else [embedded]
    if all(any(text is null_text for text in texts) for texts in (at_q, at_p)):
        at_q, at_p = (
            [_named(text, f"uncond.{side}") if text is null_text else text for text in texts]
            for side, texts in (("source", at_q), ("target", at_p))
        )
    return _Prompts(at_q, at_p, same, guidance)


def _named(text: Text, role: str) -> Text:
    """The text in a role, if it is of a kind that has one."""
    named = getattr(text, "named", None)
    return text if named is None else named(role)


def compare(
    field: VelocityField,
    x: Latents,
    z: Latents,
    noise: Latents,
    sigma: float,
    eta: float,
    prompts: _Prompts,
    method: DeltaVelocity,
    kept: Row | None = None,
    shared: bool = False,
) -> tuple[torch.Tensor, torch.Tensor, Row | None]:
    """Evaluate the target point and the source point under one noise, in one call.

    Args:
        field: The velocity field.
        x: Source latents.
        z: Edited latents.
        noise: The noise.
        sigma: Noise level t.
        eta: Coupling.
        prompts: What is evaluated where.
        method: The method.
        kept: v_source(q) of an earlier run, which is not evaluated again.
        shared: Whether all items have the same q, so that the first one's v_source(q) is that of all.

    Returns:
        Dv = v_target(p) - v_source(q), or v_target(p) less another reference: v_source(p), or noise - x; and
        v_source(q) - (noise - x), along which the source text would move its own image, both (B, C, H, W); and
        v_source(q) itself, None if the method does not ask for it.
    """
    q = flow.interpolate(x, noise, sigma)
    p = q + (1 - (1 - eta) * sigma) * (z - x)
    reference = method.reference if isinstance(method, Distillation) else "source"
    own = p if reference == "same" else q
    at_q = prompts.at_q if kept is None else []
    rows = [(own[:1] if shared else own, text) for text in at_q] + [(p, text) for text in prompts.at_p]
    velocities = flow.evaluate(field, sigma, rows)
    if at_q:
        kept = flow.merge_guidance(velocities[: len(at_q)], method.source_guidance)
    v_noise = noise - x
    v_source = v_noise if kept is None else kept
    v_target = flow.merge_guidance(velocities[len(at_q) :], flow.per_item(prompts.guidance, x))
    # For these items p = q and the texts agree: only rounding, which may differ between rows, is undone.
    v_target = torch.where(flow.per_item(prompts.same, x), v_source, v_target)
    return v_target - (v_noise if reference == "noise" else v_source), v_source - v_noise, kept


def prepare(
    latents: Latents, source_text: Text, target_text: Text, sigmas: torch.Tensor | None, method: DeltaVelocity, *,
    null_text: Text | None, seeds: Sequence[int] | None, mask: Mask | None, slides: torch.Tensor | None = None,
    kept: SourceSide | None = None,
) -> tuple[int, Loop]:  # fmt: skip
    """The number of steps of an edit, and its loop; for arguments and errors see `ditlens.ems.sample.iter_method`.

    An item whose two texts are equal comes back bit for bit if its two guidances are equal, or if the method
    guides away from the source text (there also at target_guidance 0). CSDS-recon "penalty" and "ball" do not
    promise that: plain score distillation moves an image even under its own description.
    """
    levels, kept = method.levels(sigmas), kept if method.shares_source else None
    prompts = plan_prompts(source_text, target_text, null_text, method, len(latents), slides)
    generators = flow.seeded_generators(seeds, len(latents))
    x = flow.accumulator(latents)

    def loop(field: VelocityField) -> Iterator[Step]:
        z = x
        for step, (sigma, next_sigma) in enumerate(levels):
            eta = method.coupling(step / len(levels))
            difference, own = torch.zeros_like(x), torch.zeros_like(x)
            for draw in range(method.averages):
                noise = flow.seeded_noise(generators, x)
                before = None if kept is None else kept.get((step, draw))
                parts = compare(
                    field, x, z, noise, sigma, eta, prompts, method, before, shared=kept is not None
                )
                if kept is not None and parts[2] is not None:
                    kept[step, draw] = parts[2]
                difference, own = difference + parts[0] / method.averages, own + parts[1] / method.averages
            look = Look(sigma, next_sigma, eta, z - x, difference, own)
            clean = method.preview(z, look)
            z = blend(method.constrained(z + method.update(look), x), x, mask)
            yield sigma, z, z if clean is None else blend(clean, x, mask)

    return len(levels), loop


class _Counted:
    """A velocity field that counts its calls and rows, and may announce every call as a step of a run."""

    def __init__(self, field: VelocityField, run: object | None) -> None:
        self.field, self.run, self.calls, self.evaluations = field, run, 0, 0

    def __call__(self, latents: Latents, sigma: float, text: Text) -> Latents:
        label = Label() if self.run is None else Label(step=self.calls, run=self.run)
        self.calls, self.evaluations = self.calls + 1, self.evaluations + len(latents)
        with announce(label):
            return self.field(latents, sigma, text)


def drive(field: VelocityField, steps: int, loop: Loop, *, every_call: bool = False) -> Iterator[EngineState]:
    """Make the steps of a loop one by one, without gradients, and count what they cost.

    Whoever iterates may record gradients between two steps.

    Args:
        field: The velocity field.
        steps: Number of steps.
        loop: The loop.
        every_call: Whether captures and interventions count every call as a step of its own, because a step of the
            loop looks at several noise levels.
    """
    run = object()
    count = _Counted(field, run if every_call else None)
    made = loop(count)
    for step in itertools.count():
        with torch.no_grad(), announce(Label(step=step, run=run)):
            found = next(made, None)
        if found is None:
            return
        yield EngineState(step, steps, *found, count.evaluations, count.calls)


def check_mask(mask: Mask | None, latents: Latents) -> torch.Tensor | None:
    """Return the mask in the form of the latents, or refuse it.

    Raises:
        SettingError: If its shape or its values do not fit.
    """
    if mask is None:
        return None
    batch, _, height, width = latents.shape
    if mask.ndim != 4 or mask.shape[0] not in (1, batch) or tuple(mask.shape[1:]) != (1, height, width):
        raise SettingError(
            f"The mask has shape {tuple(mask.shape)}; for these latents it is "
            f"(1 or {batch}, 1, {height}, {width}). "
            "ditlens.ems.masks.latent_mask makes one from an image."
        )
    mask = mask.to(latents.device, torch.float32)
    check_values(mask)
    return mask


def blend(edited: Latents, kept: Latents, mask: Mask | None) -> Latents:
    """What is edited inside the mask, what is kept outside: bit for bit where the mask is 0 or 1."""
    if mask is None:
        return edited
    mask = mask.to(edited.dtype)
    mixed = kept + mask * (edited - kept)
    return torch.where(mask == 1, edited, torch.where(mask == 0, kept, mixed))
