"""Editing directions: a vector that moves one attribute, and the unit in which it is walked along.

A direction lives in text space, where it is added to what the text encoders made of a prompt, or at a `Site`, where
it is added to hidden states while the model runs (`ditlens.steer`). Both are walked in units::

    values + amount * unit * vector

In text space the vector is c1 - c0, the difference of two texts, and the unit is 1: amount 1 goes from one text to
the other. At a site the vector has length 1 and the unit is the standard deviation of the values along it, over the
images
that it was made from: amount 1 goes as far as those images typically differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from ditlens import flow
from ditlens.analysis import hidden_directions as hidden
from ditlens.analysis import text_directions as texts
from ditlens.arguments import (
    COUNT,
    FLAG,
    INDEX,
    NAME,
    NOTHING,
    PATH,
    SEED,
    TEXT,
    Kind,
    instance,
    list_of,
    listed,
    one_of,
    several,
    takes,
)
from ditlens.cards import Carded, Piece
from ditlens.errors import SettingError
from ditlens.lens.cache import SITE, LatentCache
from ditlens.lens.selection import keeps_tokens, whole_numbers
from ditlens.lens.site import Site
from ditlens.lens.study.store import Study
from ditlens.lens.tensor_files import load_tensors, save_tensors
from ditlens.models.model import Model

SOURCE = instance(
    "a model, a study or a cache: ditlens.load('portraits'), ditlens.open_study(folder)",
    Model,
    Study,
    LatentCache,
)
NUMBERS = several(INDEX, "a list of whole numbers from 0")
PAIR = Kind(
    "a pair of texts, ('a frown', 'a smile')",
    lambda value: isinstance(value, list | tuple) and len(value) == 2 and all(map(TEXT.fits, value)),
)
PAIRS = several(PAIR)


@dataclass(frozen=True, eq=False, repr=False)
class Direction(Carded):
    """A direction, its unit, and how it was made; from `ditlens.direction`.

    Attributes:
        name: What it is to move, in words.
        how: How it was made, in words.
        vector: (tokens, width). At a site all of it together has length 1; in text space it is c1 - c0.
        unit: How often the vector is added at amount 1: the standard deviation of the values along it, or 1.
        site: Printed site; empty in text space.
        places: The patches at which it acts, one for each row of `vector`, or all with its one row; empty: all.
        pooled: Text space: the difference of the pooled vectors, (width,); None if they are left alone.
        words: Text space: the words of a prompt at whose tokens it acts, whichever is found; empty: at all tokens.
        last: Text space: whether it acts at their last token only.
        targets: Attributes of the world that it is to move.
        value: Of a categorical target: the value that it leads to.

    Example:
        >>> smile = dl.direction(model, "a slight smile", "a big smile")
        >>> smile
        Direction: a slight smile -> a big smile
          text space, 64 tokens x 256 and the pooled vector
          made as: difference of the two texts
          unit 1 (from one text to the other), length ...
        >>> text = model.encode_text("a slight smile").tokens[0] + smile.step
        >>> torch.allclose(text, model.encode_text("a big smile").tokens[0], atol=1e-5)
        True
        >>> dl.Direction.load(smile.save("smile.safetensors")).name
        'a slight smile -> a big smile'
    """

    name: str
    how: str
    vector: Float[Tensor, "tokens width"]
    unit: float
    site: str = ""
    places: tuple[int, ...] = ()
    pooled: Tensor | None = None
    words: tuple[str, ...] = ()
    last: bool = False
    targets: tuple[str, ...] = ()
    value: str = ""

    @property
    def step(self) -> Float[Tensor, "tokens width"]:
        """What amount 1 adds: unit * vector."""
        return self.unit * self.vector

    def _card(self) -> list[Piece]:
        rows, width = self.vector.shape
        one = (
            "at any token" if not self.words else f"at the tokens of {' or '.join(map(repr, self.words[:3]))}"
        )
        where = f"{rows} tokens x {width}" if rows > 1 else f"{width} numbers {one}"
        count = len(self.places)
        where += (
            f", at {count} {'patch' if count == 1 else 'patches'}: {_short(self.places)}" if count else ""
        )
        where += " and the pooled vector" if self.pooled is not None else ""
        unit = "1 standard deviation of the values along it" if self.site else "from one text to the other"
        return [
            f"Direction: {self.name}",
            f"  {self.site or 'text space'}, {where}",
            f"  made as: {self.how}",
            f"  unit {self.unit:.3g} ({unit}), length {float(self.step.norm()):.3g}",
        ]

    def cosine(self, other: Direction) -> float:
        """Cosine of the angle to another direction; tokens at which one of them does not act count as zero.

        Two directions of many numbers are nearly orthogonal by chance alone: compare with `ditlens.gram`'s nulls.

        Raises:
            SettingError: If they live in different spaces.
        """
        if self.site != other.site or self.vector.shape[1] != other.vector.shape[1]:
            raise SettingError(
                f"One direction is at {self.site or 'the text'}, the other at {other.site or 'the text'}: there is "
                "no angle between them."
            )
        mine, theirs = _rows(self), _rows(other)
        if (None in mine) != (None in theirs):  # one vector for any token: spread over the other's tokens
            mine, theirs = _spread(mine, theirs), _spread(theirs, mine)
        dot = sum(float(mine[k] @ theirs[k]) for k in mine.keys() & theirs.keys())
        lengths = [sum(float(row @ row) for row in rows.values()) ** 0.5 for rows in (mine, theirs)]
        return dot / (lengths[0] * lengths[1])

    @takes(patches=NUMBERS)
    def at(self, patches: int | Sequence[int]) -> Direction:
        """The same direction at some of its patches only; the unit, and so what is added there, stays.

        Raises:
            SettingError: If it does not act at one of them, or lives in text space.
        """
        chosen = tuple(int(p) for p in listed(patches))
        if not self.site:
            raise SettingError(
                "A direction of texts acts at words, not at patches: steer(..., word='smile')."
            )
        if absent := [p for p in chosen if self.places and p not in self.places]:
            raise SettingError(
                f"This direction does not act at patch {absent[0]}, only at {_short(self.places)}."
            )
        if len(self.vector) == 1:
            return replace(self, places=chosen)
        return replace(self, vector=self.vector[[self.places.index(p) for p in chosen]], places=chosen)

    @takes(seed=SEED)
    def random(self, seed: int = 0) -> Direction:
        """A control: a random direction with the same length at every token where this one acts."""
        noise = flow.normal(tuple(self.vector.shape), flow.generator_of(seed)).to(self.vector)
        vector = noise / noise.norm(dim=-1, keepdim=True) * self.vector.norm(dim=-1, keepdim=True)
        pooled = self.pooled
        if pooled is not None:
            other = flow.normal(tuple(pooled.shape), flow.generator_of(seed + 1)).to(pooled)
            pooled = other / other.norm() * pooled.norm()
        return replace(
            self, name=f"random, as long as: {self.name}", how="at random", vector=vector, pooled=pooled
        )

    @takes(path=PATH, overwrite=FLAG)
    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write it as one safetensors file.

        Args:
            path: The file; its name must end in ``.safetensors``.
            overwrite: Whether it may be there already.

        Returns:
            The file's path.

        Raises:
            SettingError: If the name ends otherwise, or the file is there already.
            WriteError: If it cannot be written.
        """
        about = {k: v for k, v in asdict(replace(self, vector=None, pooled=None)).items() if v is not None}  # type: ignore[arg-type]
        tensors = {"vector": self.vector} | ({} if self.pooled is None else {"pooled": self.pooled})
        return save_tensors(path, "direction", tensors, about, overwrite)

    @classmethod
    @takes(path=PATH)
    def load(cls, path: str | Path) -> Direction:
        """Read what `save` wrote.

        Raises:
            SettingError: If the file cannot be read or holds no direction.
        """
        return load_tensors(path, "direction", cls._made, SettingError)

    @classmethod
    def _made(cls, tensors: dict[str, Tensor], about: dict[str, Any]) -> Direction:
        """A direction of what a file holds."""
        lists = {name: tuple(value) for name, value in about.items() if isinstance(value, list)}
        return cls(**(about | lists | tensors))


DIRECTION = instance("a direction: ditlens.direction(study, 'smile')", Direction)


def _short(places: Sequence[int]) -> str:
    return ", ".join(map(str, places[:8])) + (", ..." if len(places) > 8 else "")


def _rows(direction: Direction) -> dict[int | None, Tensor]:
    """The rows by token; None for any token."""
    if len(direction.vector) == 1 and not direction.places:
        return {None: direction.vector[0].double()}
    places = direction.places or range(len(direction.vector))
    return dict(zip(places, direction.vector.double().expand(len(places), -1), strict=True))


def _spread(rows: dict[int | None, Tensor], like: dict[int | None, Tensor]) -> dict[int | None, Tensor]:
    return dict.fromkeys(like, rows[None]) if None in rows else rows


# --- making one --------------------------------------------------------------------------------------------


@takes(
    source=SOURCE, pairs=PAIRS, site=SITE, method=one_of(*hidden.METHODS, *texts.METHODS),
    steps=NUMBERS,
    patches=COUNT | list_of(INDEX, "a list of patch numbers") | one_of("auto") | NOTHING,
    per_patch=FLAG, value=TEXT, word=NAME, count=COUNT, seed=SEED,
)  # fmt: skip
def direction(
    source: Model | Study | LatentCache,
    *what: str,
    pairs: tuple[str, str] | Sequence[tuple[str, str]] | None = None,
    site: str | Site | None = None,
    method: str | None = None,
    steps: Sequence[int] | int | None = None,
    patches: Sequence[int] | int | str | None = "auto",
    per_patch: bool = True,
    value: str = "",
    values: Sequence[float | str | None] | None = None,
    word: str = "",
    count: int = 32,
    seed: int = 0,
) -> Direction:
    """Make an editing direction, in text space from a model, or at a site from a study or a cache.

    In text space, from ``direction(model, "a frown", "a smile")``, from ``pairs=[...]``, or from
    ``direction(model, "smile")``, for which the model's world writes pairs that differ in this attribute alone:

    - ``"matrix"`` (default): the mean of c1 - c0, row by row of the token matrix, and of the pooled vectors.
    - ``"word"``: the mean over the tokens of the changed words, after less before (token-local steering, arXiv
      2603.17998). It acts at the tokens of such words only; the pooled vector stays.
    - ``"noun"``: the mean of c1 - c0 at the last token of `word`, where it also acts (attribute deltas, arXiv
      2403.17064, in their untrained form).

    At a site, from ``direction(study, "smile", site="joint.3.image.out")``:

    - ``"difference"`` (default): mean of the third of the images that have most of it, less mean of the third that
      have least; of a categorical attribute: images with the value less all others.
    - ``"probe"``: the weights w of a ridge regression, as the pattern cov(x) w that goes with what they read (Haufe
      et al. 2014): what predicts an attribute is not yet what changes it.
    - ``"weights"``: those weights themselves.
    - ``"pca"``: of the first 10 principal components the one that correlates most with the attribute.

    Args:
        source: A model; or a study or cache with hidden states in the model's own width (``reduce=None``).
        *what: An attribute's name, or two texts.
        pairs: One or more pairs of texts (before, after).
        site: Site of the study; needed where it has several.
        method: See above.
        steps: One or more steps, whose hidden states are averaged; all by default.
        patches: Tokens of the site at which it acts: "auto" takes those where images with most and with least of
            the attribute differ about as much as anywhere, and more than they would anywhere by chance (if none
            does, it warns and takes all); or their numbers, or how many: those that differ most against their own
            spread; None for all.
        per_patch: Whether every patch has a vector of its own; if not, all share one.
        value: Which value of a categorical attribute.
        values: The attribute of every image, where the study has no column of this name; None where nobody can see
            it.
        word: For the method "noun".
        count: Pairs that the world writes.
        seed: Of these pairs.

    Returns:
        The direction.

    Raises:
        SettingError: If the arguments do not fit together, the study was reduced, or the attribute never changes.
        UnknownAttributeError: If the world has no such attribute.
        SiteError: If the site is not there.

    Example:
        >>> from ditlens.lens.study.run import plan_study, run_study
        >>> prompts = ["a big smile", "a big frown", "a slight smile", "a slight frown"]
        >>> plan = plan_study(model, prompts, [0], "joint.1.image.out", reduce=None, sampling_steps=2,
        ...                   columns={"mood": [1.0, -1.0, 0.5, -0.5]})
        >>> mood = dl.direction(run_study(model, plan, "moods"), "mood", patches=[35, 36])
        >>> mood
        Direction: mood
          joint.1.image.out, 2 tokens x 64, at 2 patches: 35, 36
          made as: difference of the means of most and least, 4 images, steps 0, 1
          unit ... (1 standard deviation of the values along it), length ...
        >>> round(float(mood.vector.norm()), 3)
        1.0
    """
    if other := [each for each in what if not isinstance(each, str)]:
        raise SettingError(
            f"An attribute's name or two texts go here, nothing of type {type(other[0]).__name__}: "
            "direction(model, 'smile'), direction(model, 'a frown', 'a smile'), or direction(study, 'smile', "
            "site=...)."
        )
    if isinstance(source, Model):
        if site is not None or method in hidden.METHODS:
            raise SettingError(
                "Directions at a site are made from a study or a cache: direction(study, 'smile', site=...)."
            )
        written: Any = [pairs] if PAIR.fits(pairs) else pairs
        return Direction(**texts.make(source, what, written, method or "matrix", value, word, count, seed))
    if method in texts.METHODS or pairs is not None or len(what) != 1:
        raise SettingError(
            "From a study or a cache a direction is made for one attribute: direction(study, 'smile', site=...). "
            "Directions of texts are made from a model."
        )
    if source.reduced:
        raise SettingError(
            f"This {'study' if isinstance(source, Study) else 'cache'} was reduced ({source.reduced}): its vectors "
            f"are not {'in the width of the model' if keeps_tokens(source.reduced) else 'of single tokens'}, and "
            "cannot be added to hidden states. Plan it with reduce=None."
        )
    chosen = None if steps is None else whole_numbers("steps", listed(steps))
    name = site_of(source, site)
    states, numbers, kept = hidden.gather(source, name, chosen)
    target = hidden.target(source, what[0], value, values)
    states, target = states[~target.isnan()], target[~target.isnan()]
    rows = hidden.choose(states, target, patches, kept)
    vector, unit = hidden.fit(states[:, rows], target, method or "difference", per_patch)
    places = tuple(kept[row] for row in rows) if per_patch or patches is not None else ()
    how = f"{hidden.METHODS[method or 'difference']}, {len(states)} images, steps {_short(numbers)}"
    label = f"{what[0]}: {value}" if value else what[0]
    return Direction(label, how, vector, unit, name, places, targets=(what[0],), value=value)


def site_of(source: Study | LatentCache, site: str | Site | None) -> str:
    """The printed site of a study or cache; needed where it has several.

    Raises:
        SettingError: If it has several and none is named, or not this one.
    """
    if site is None and len(source.sites) == 1:
        return source.sites[0]
    name = "" if site is None else str(Site.parse(str(site)))
    if name not in source.sites:
        asked = f"{name} is not in it" if name else "Say at which site: site=..."
        raise SettingError(f"{asked}. It has {', '.join(source.sites[:12])}.")
    return name
