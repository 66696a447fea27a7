"""Say what a capture will take before it is made, and what would take less."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from ditlens import flow
from ditlens.arguments import COUNT, function_of, takes
from ditlens.errors import SettingError
from ditlens.lens.cache import smaller_settings
from ditlens.lens.captures import capture
from ditlens.lens.selection import Passes, Reducer, Steps, Tokens, size_of, step_filter
from ditlens.models.model import Model
from ditlens.tables import counted, human


@dataclass(frozen=True)
class Estimate:
    """What a capture will take.

    >>> size = dl.estimate(model, "joint.*.image.out", items=100)
    >>> size.total, size.fits("1 GB")  # 2 sites x 4 steps x 64 tokens x 64 channels x 4 bytes x 100
    (13107200.0, True)

    Attributes:
        item: Bytes of one image.
        items: Number of images.
        steps: Steps that are kept of each.
        sites: Number of sites.
        smaller: Settings that would take less, with the bytes that all images would take then.
    """

    item: float
    items: int
    steps: int
    sites: int
    smaller: dict[str, float] = field(default_factory=dict)

    @property
    def total(self) -> float:
        """Bytes of all images."""
        return self.item * self.items

    def fits(self, limit: str | float = "1 GB") -> bool:
        """Whether all images stay within a limit, such as that of `ditlens.capture`."""
        return self.total <= size_of(limit)

    def __str__(self) -> str:
        many = counted(self.items, "image") + (f" of {human(self.item)}" if self.items != 1 else "")
        said = f"{human(self.total)}: {many}, {counted(self.sites, 'site')} at {counted(self.steps, 'step')}"
        less = "; ".join(f"{setting} {human(size)}" for setting, size in self.smaller.items())
        return f"{said}. Smaller: {less}." if less else f"{said}."


@takes(run=function_of(), sampling_steps=COUNT, items=COUNT)
def estimate(
    model: Any,
    sites: str | Iterable[str] = "*.*.*.out",
    *,
    run: Callable[[], object] | None = None,
    sampling_steps: int | None = None,
    items: int = 1,
    steps: Steps = None,
    passes: Passes = "cond",
    tokens: Tokens = None,
    reduce: str | Reducer | None = None,
    heads: str = "mean",
    dtype: torch.dtype | None = None,
) -> Estimate:
    """Measure what a capture will take, on one sampling step whose tensors are not kept.

    >>> print(dl.estimate(model, "joint.*.image.out", items=100))
    13 MB: 100 images of 131 kB, 2 sites at 4 steps. Smaller: reduce='mean' 205 kB; dtype=torch.bfloat16 6.6 MB; ...

    Args:
        model: As in `ditlens.capture`, like the arguments below that have the same names.
        sites: Patterns.
        run: Makes at least one sampling step, e.g. ``lambda: pipe("a cat", num_inference_steps=1)``. A
            `ditlens.Model` runs a step by itself.
        sampling_steps: Steps of the sampling loops to come. By default a `ditlens.Model`'s own number, else those
            that `run` makes.
        items: Images to come.
        steps: Steps to keep of them.
        passes: Guidance passes.
        tokens: Tokens to keep.
        reduce: Reduction over tokens.
        heads: Heads of attention maps.
        dtype: Number format to keep.

    Raises:
        SettingError: If `run` is missing.
        CaptureError: If `run` did not run the model.
    """
    if run is None:
        if not isinstance(model, Model):
            raise SettingError(
                "Only a ditlens.Model can be run by itself. Say what makes one sampling step: "
                "run=lambda: pipe('a cat', num_inference_steps=1)."
            )
        run = partial(_one_step, model)
        sampling_steps = sampling_steps or int(model.defaults["steps"])
    sizing = partial(
        Sizing, model, sites, passes=passes, tokens=tokens, heads=heads, dtype=dtype, device="meta",
        limit=float("inf"),
    )  # fmt: skip
    with sizing(reduce=reduce) as cache, sizing(reduce="mean") as mean:
        run()
    seen = max(len(cache.steps), 1)
    wanted = step_filter(steps)
    kept = sum(wanted(k) for k in range(sampling_steps or seen))
    item = cache.nbytes / seen / max(len(cache.items), 1) * kept
    less = smaller_settings(cache.tensors, reduced=reduce is not None)
    if reduce is not None and mean.nbytes < cache.nbytes:
        less = {"reduce='mean'": mean.nbytes / cache.nbytes, **less}
    if steps is not None or kept < 4:
        less.pop("steps=slice(None, None, 4)", None)
    return Estimate(item, items, kept, len(cache.sites), {k: v * item * items for k, v in less.items()})


class Sizing(capture):
    """A capture of shapes, without numbers, and of one step, which does not have every pass."""

    def warn_of_nan(self) -> None:
        """There are no numbers."""

    def warn_of_absent(self) -> None:
        """Passes of other steps are not absent."""


def _one_step(model: Model) -> None:
    """Sample one step with guidance, so that both passes run."""
    null = model.encode_text("").named("uncond")
    guidance = float(model.defaults["guidance"])
    flow.sample(
        model, model.noise([0]), model.sigmas(1), model.encode_text("a portrait"), null_text=null,
        guidance=guidance if guidance != 1 else 2.0,
    )  # fmt: skip
