"""What an explorer is about: the pictures, what is known of them, and their hidden states as points."""

from __future__ import annotations

import io
import math
import shutil
import tempfile
import weakref
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from matplotlib import colormaps
from PIL import Image

from ditlens.analysis.decompose import PCA
from ditlens.analysis.neighbours import UMAP
from ditlens.analysis.probes import HELD_OUT
from ditlens.analysis.projection import Projection
from ditlens.analysis.rows import kept_tokens
from ditlens.analysis.targets import is_missing
from ditlens.errors import SettingError
from ditlens.images import open_image, to_jpeg
from ditlens.lens.cache import LatentCache
from ditlens.lens.selection import keeps_tokens
from ditlens.lens.site import Site
from ditlens.lens.study.run import plan_study, run_study
from ditlens.lens.study.store import Study
from ditlens.models.model import Model
from ditlens.tables import spoken
from ditlens.views.explorer.state import ExplorerState
from ditlens.views.scatter import OKABE_ITO, OTHER, Colour

SIDE = 48
"""Side of a picture on the sheet of all pictures, in pixels."""
SHEET = 2_000
"""Most pictures on the sheet."""
POINTS = 20_000
"""Most points of a scatter."""
MAPPED = 2_000
"""Most points of a UMAP: laying out more takes minutes."""
GROUPS = 12
"""A column of words with more different values is not compared."""
DRAWN, DRAWN_STEPS = 32, 8
"""Pictures, and sampling steps, of an explorer that is given a model only."""


@dataclass(frozen=True, eq=False)
class Points:
    """Hidden states as points.

    Attributes:
        projection: Where they lie, and which picture and token each is of.
        note: What was done to the rows, in words.
        axes: Names of both axes.
    """

    projection: Projection
    note: str
    axes: tuple[str, str]


@dataclass(frozen=True, eq=False)
class Material:
    """A study or a cache, and its pictures.

    Attributes:
        source: The hidden states.
        given: Pictures that were given beside it.
    """

    source: Study | LatentCache
    given: Sequence[Any] = field(default=(), repr=False)
    _jpegs: dict[tuple[int, int], bytes] = field(default_factory=dict, repr=False)
    _numbers: dict[str, list[int]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if len(self.given) not in (0, len(self)):
            raise SettingError(f"Got {len(self.given)} pictures for {len(self)} images. Give one for each.")
        if not self.sites:
            raise SettingError("There is nothing to explore: no hidden states were captured at any block.")

    def __len__(self) -> int:
        return len(self.source.items)

    # --- its places --------------------------------------------------------------------------------------

    @cached_property
    def sites(self) -> list[str]:
        """Sites of hidden states, in the order of the forward pass; without attention maps."""
        return [site for site in self.source.sites if ".attn.to_" not in site]

    def streams(self) -> dict[str, list[tuple[str, str]]]:
        """Of each stream the sites, as (label, site)."""
        found: dict[str, list[tuple[str, str]]] = {}
        for name in self.sites:
            site = Site.parse(name)
            found.setdefault(site.stream or "pooled", []).append((label_of(site), name))
        return found

    def token_choices(self, site: str) -> list[tuple[str, str]]:
        """What a point can be at a site, as (label, value)."""
        stream = Site.parse(site).stream
        if not stream or (self.source.reduced and not keeps_tokens(self.source.reduced)):
            return [("one point a picture", "mean")]
        what = {"image": "patch", "text": "token"}[stream]
        plural = {"image": "patches", "text": "words"}[stream]
        choices = [(f"mean of the {plural}", "mean"), (f"every {what}", "each")]
        if stream == "text":  # one place holds another word in every prompt
            return choices
        return choices + [(f"{what} {n}", str(n)) for n in self.numbers(site)]

    def numbers(self, site: str) -> list[int]:
        """Numbers of the tokens that were kept at a site."""
        if site not in self._numbers:
            part = next(self.source.select([site], step=[self.source.steps[0]]).parts(1))
            kept = kept_tokens(self.source, site, part.values.shape[1])
            self._numbers[site] = kept if part.values.ndim == 3 else []
        return self._numbers[site]

    # --- its pictures ------------------------------------------------------------------------------------

    @property
    def has_pictures(self) -> bool:
        """Whether there are any."""
        return bool(self.given) or (isinstance(self.source, Study) and self.source.has_images)

    def picture(self, number: int) -> Image.Image | None:
        """One of the pictures, if there are any."""
        if self.given:
            return open_image(self.given[number])
        return self.source.image(number) if self.has_pictures and isinstance(self.source, Study) else None

    @cached_property
    def _small(self) -> list[Image.Image]:
        count = min(len(self), SHEET) if self.has_pictures else 0
        found = (self.picture(k) for k in range(count))
        return [each.resize((SIDE, SIDE), Image.Resampling.LANCZOS) for each in found if each is not None]

    @property
    def on_sheet(self) -> int:
        """How many pictures are on the sheet."""
        return len(self._small)

    def sheet(self) -> tuple[bytes, int]:
        """All pictures, small, on one sheet as JPEG, and how many are in a row of it."""
        small = self._small
        if not small:
            return b"", 1
        across = math.ceil(math.sqrt(len(small)))
        sheet = Image.new("RGB", (across * SIDE, math.ceil(len(small) / across) * SIDE))
        for k, each in enumerate(small):
            sheet.paste(each, (k % across * SIDE, k // across * SIDE))
        with io.BytesIO() as memory:
            sheet.save(memory, "JPEG", quality=80)
            return memory.getvalue(), across

    def jpeg(self, number: int, side: int = 0) -> bytes:
        """A picture as JPEG, perhaps of another size; empty where there is none."""
        if (number, side) not in self._jpegs:
            picture = self.picture(number)
            if picture is not None and side:
                picture = picture.resize((side, side), Image.Resampling.LANCZOS)
            self._jpegs[number, side] = b"" if picture is None else to_jpeg(picture)
        return self._jpegs[number, side]

    # --- what is known of them ---------------------------------------------------------------------------

    @cached_property
    def columns(self) -> dict[str, list[Any]]:
        """What is known of every picture; what was measured in it first."""
        known = dict(self.source.columns)
        plan = set(self.source.manifest.columns) if isinstance(self.source, Study) else set()
        first = [name for name in known if name not in plan and name not in HELD_OUT]
        return {name: known[name] for name in [*first, *(n for n in known if n not in first)]}

    @property
    def colors(self) -> list[str]:
        """Columns that can colour the points: those that vary, and are no whole texts."""
        return [name for name in self.columns if name not in HELD_OUT]

    def label(self, number: int, column: str) -> str:
        """A picture in a line: its value, and its prompt."""
        prompt = str(self.columns.get("prompt", [""] * len(self))[number])
        value = self.columns[column][number] if column in self.columns else None
        told = "" if value is None else f"{spoken(column)}: {in_words(value)} · "
        return f"{told}{prompt[:90]}{'…' * (len(prompt) > 90)}"

    def shades(self, points: Points, color: str) -> tuple[bytes, list[dict[str, str]]]:
        """RGB of every point, and the legend: colours and words."""
        count = len(points.projection)
        if not color:
            one = np.asarray([[int(OKABE_ITO[0][k : k + 2], 16) for k in (1, 3, 5)]], np.uint8)
            return np.repeat(one, count, 0).tobytes(), []
        found = Colour(points.projection.values(color), color)
        shades = (found.of(np.arange(count))[:, :3] * 255).round().astype(np.uint8)
        if not found.continuous:
            legend = [{"color": shade, "label": word} for word, shade in found.legend.items()]
        else:
            low, high = found.mappable.get_clim()
            at = np.linspace(0, 1, 5)
            legend = [
                {"color": hex_of(colormaps["cividis"](x)), "label": f"{low + x * (high - low):.3g}"}
                for x in at
            ]
        if found.unknown.any():
            legend.append({"color": OTHER, "label": "not seen"})
        return shades.tobytes(), legend

    def compared(self, chosen: Sequence[int], most: int = 8) -> list[dict[str, str]]:
        """What the chosen pictures have more or less of than the others: the largest differences first."""
        inside = np.zeros(len(self), bool)
        inside[list(chosen)] = True
        if not inside.any() or inside.all():
            return []
        plan = set(self.source.manifest.columns) if isinstance(self.source, Study) else set()
        rows = [
            row
            for name in self.colors
            if name not in plan and (row := difference(name, self.columns[name], inside)) is not None
        ]
        return [row for _, row in sorted(rows, key=lambda each: -each[0])[:most]]

    # --- its hidden states -------------------------------------------------------------------------------

    def points(self, state: ExplorerState) -> Points:
        """The hidden states of a site at a step, in two dimensions."""
        part = self.source.select([state.site], step=[state.step])
        part = part.select(pass_="cond") if len(part.passes) > 1 and "cond" in part.passes else part
        if state.view == "UMAP":
            view: PCA | UMAP = UMAP(tokens=state.row(), max_rows=MAPPED)
            found = view.fit_transform(part)
            return Points(
                found, f"{found.note or f'{len(found)} points'}; {view.preprocessing}", ("UMAP 1", "UMAP 2")
            )
        pca = PCA(2, tokens=state.row()).fit(part)
        found = thinned(pca.transform(part))
        shares = pca.explained_variance_ratio_
        axes = tuple(f"{pca.axis(k)} ({100 * shares[k]:.0f} % of the variance)" for k in range(2))
        return Points(found, "; ".join(filter(None, (pca.preprocessing, found.note))), (axes[0], axes[1]))


def thinned(found: Projection, most: int = POINTS) -> Projection:
    """No more than so many points, drawn at random with seed 0."""
    if len(found) <= most:
        return found
    kept = np.sort(np.random.default_rng(0).choice(len(found), most, replace=False))
    labels = {name: values[kept] for name, values in found.labels.items()}
    note = f"{most} of {len(found)} points, drawn at random"
    return Projection(found.coordinates[kept], labels, found.view, found.source, note)


def label_of(site: Site) -> str:
    """A site beside its stream: its block and point."""
    if site.kind == "cond":
        return "pooled text and noise level"
    kind = "" if site.kind == "joint" else f"{site.kind} "
    return f"{kind}block {site.block}{'' if site.point == 'out' else f', {site.point}'}"


def difference(name: str, values: Sequence[Any], inside: np.ndarray) -> tuple[float, dict[str, str]] | None:
    """How a column differs between chosen pictures and the others: how much, and in words; None if it cannot."""
    known = np.asarray([not is_missing(value) for value in values])
    groups = [
        [v for v, k, i in zip(values, known, inside, strict=True) if k and i == side]
        for side in (True, False)
    ]
    if not all(groups):
        return None
    if all(
        isinstance(value, int | float) and not isinstance(value, bool) for group in groups for value in group
    ):
        a, b = (np.asarray(group, float) for group in groups)
        spread = float(np.concatenate([a, b]).std())
        if spread == 0:
            return None
        by = float(a.mean() - b.mean()) / spread
        row = {"chosen": rounded(a.mean()), "others": rounded(b.mean()), "by": f"{by:+.1f} sd"}
        return abs(by), {"name": spoken(name), **row}
    counts = [Counter(map(str, group)) for group in groups]
    words = set(counts[0]) | set(counts[1])
    if len(words) < 2 or len(words) > GROUPS:
        return None
    shares = {
        word: [count[word] / len(group) for count, group in zip(counts, groups, strict=True)]
        for word in words
    }
    word = max(sorted(words), key=lambda each: abs(shares[each][0] - shares[each][1]))
    here, there = shares[word]
    row = {
        "chosen": f"{100 * here:.0f} %",
        "others": f"{100 * there:.0f} %",
        "by": f"{100 * (here - there):+.0f} points",
    }
    return 2 * abs(here - there), {"name": f"{spoken(name)}: {word}", **row}


def in_words(value: Any) -> str:
    """A value of a column."""
    return rounded(value) if isinstance(value, float) else str(value)


def rounded(value: float) -> str:
    """A number with two digits after the point; zero has no sign."""
    return f"{round(float(value), 2) + 0.0:.2f}"


def hex_of(color: Sequence[float]) -> str:
    """A colour as pages write it."""
    return "#" + "".join(f"{round(255 * x):02x}" for x in color[:3])


def drawn(model: Model) -> Study:
    """A study of pictures that a model draws of its world at random.

    Raises:
        SettingError: If the model has no world.
    """
    world = model.world
    if world is None:
        raise SettingError(
            "A model without a world has no pictures to explore. Capture some: dl.Explorer(cache, model=model), "
            "or a study: dl.Explorer(study, model=model)."
        )
    people = world.sample(DRAWN, 0)
    prompts = [
        world.caption(
            {name: world.attributes[name].level_of(value) for name, value in list(each.items())[k % 3 :: 3]},
            k,
        )
        for k, each in enumerate(people)
    ]
    plan = plan_study(
        model, prompts, list(range(DRAWN)), ["*.*.image.out"], paired=True, sampling_steps=DRAWN_STEPS,
        steps=list(range(0, DRAWN_STEPS, 2)),
    )  # fmt: skip
    folder = tempfile.mkdtemp(prefix="ditlens-explorer-")
    study = run_study(model, plan, folder)
    weakref.finalize(study, shutil.rmtree, folder, ignore_errors=True)
    return study
