"""Leakage: can one attribute be told from another one's channel inside the attention?

A summary of EMS (arXiv 2408.13335) says that the attention of DiTs gives a classification accuracy "near 0.5"
across semantic tokens, so that meanings hardly leak into one another. What was classified from what is not known to
us. Here is our reading. Prompts name an attribute A at two levels and an attribute B at two levels, all four
combinations, in many carrier sentences. From every block come two vectors that should be about B only::

    text     mean over the tokens i of B of the attention's output o_i
    image    sum over the tokens k of B of softmax(q k)_k v_k, at every patch: what the image reads from B

A linear classifier is trained to tell A from such a vector and tested on carriers, and seeds, that it has not seen:
0.5 is no leakage, 1 is full leakage. Three things are needed to read that number. *B* must be told from the same
vector (about 1), or there is nothing in it to find. With *shuffled* labels the accuracy shows what chance gives.
And the text encoders are causal: tokens of B that come after A know A already, before the transformer has done
anything. That is the *embedding*, and every pair is run with A before B and with A after B.

An accuracy says that something leaks, not how much: the smallest trace can be told where nothing else differs. The
*size* compares how far A moves the vector with how far B moves it.

There is a way around the words, too: the pooled vector of the text, which knows the whole prompt, modulates every
token of every block. `leakage(..., pooled=False)` closes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ditlens.analysis.channels import CELLS, EMBEDDING, Contrast, Place, Run
from ditlens.analysis.classifying import classify, size_of
from ditlens.analysis.prompts import carrier, ends_of, swapped, world_of
from ditlens.arguments import (
    COUNT,
    FLAG,
    INDEX,
    NAME,
    NOTHING,
    NUMBER,
    SEED,
    TEXT,
    Kind,
    list_of,
    listed,
    one_of,
    several,
    takes,
)
from ditlens.cards import Carded, Piece, Table
from ditlens.errors import SettingError
from ditlens.late import view
from ditlens.metrics.statistics import Estimate, said, too_few
from ditlens.models.model import MODEL, Model
from ditlens.tables import frame, progress_bar, share_of

if TYPE_CHECKING:
    import pandas

ORDERS = ("before", "after")
"""Where the phrase of A stands, seen from that of B."""

HEADS = ("A (leak)", "B", "A shuffled", "size")
"""What tables call the numbers of a row."""

PHRASES = Kind("", lambda value: isinstance(value, tuple) and len(value) == 2 and all(map(NAME.fits, value)))
CONTRAST = NAME | PHRASES
ONE = Kind("an attribute, e.g. 'smile', or two phrases, ('a big smile', 'a big frown')", CONTRAST.fits)


class LeakageRow(NamedTuple):
    """What was told from one channel at one place.

    Attributes:
        source: A, the attribute that may leak.
        into: B, whose channel it is.
        order: "before" if A's phrase stands before B's, or "after".
        stream: Stream of the channel, "text" or "image".
        block: "joint.0" and so on, or "embedding".
        step: Step of the sampling loop; -1 for the embedding.
        leak: Accuracy of telling A, with a 95 % interval over carriers.
        own: Accuracy of telling B.
        shuffled: Mean accuracy with shuffled labels of A; its ends are those of the middle 95 % of the shuffles.
        size: How far A moves the vector, as a share of how far B moves it.
    """

    source: str
    into: str
    order: str
    stream: str
    block: str
    step: int
    leak: Estimate
    own: Estimate
    shuffled: Estimate
    size: Estimate


@dataclass(frozen=True, eq=False, repr=False)
class Leakage(Carded):
    """What one attribute's channel tells of another attribute: see `leakage`.

    Attributes:
        names: The attributes.
        rows: One for each pair, order, stream, block and step.
        recipe: Settings of the run.

    Example:
        >>> given = {"carriers": 4, "stream": "text", "steps": 0, "sampling_steps": 1}
        >>> found = dl.leakage(model, ["smile", "hat"], **given)
        >>> isinstance(found, dl.Leakage), found.matrix("joint.0").shape
        (True, (2, 2))
    """

    names: tuple[str, ...]
    rows: tuple[LeakageRow, ...] = field(repr=False)
    recipe: Mapping[str, Any] = field(repr=False)

    @property
    def blocks(self) -> list[str]:
        """The blocks, first to last."""
        return [block for block in dict.fromkeys(row.block for row in self.rows) if block != EMBEDDING]

    @property
    def steps(self) -> list[int]:
        """The steps of the sampling loop."""
        return sorted({row.step for row in self.rows if row.block != EMBEDDING})

    def select(self, **wanted: Any) -> list[LeakageRow]:
        """The rows whose fields have these values: ``result.select(order="after", stream="text")``.

        Raises:
            SettingError: If there are none.
        """
        unknown = set(wanted) - set(LeakageRow._fields)
        found = (
            [] if unknown else [r for r in self.rows if all(getattr(r, n) == v for n, v in wanted.items())]
        )
        if not found:
            known = {n: list(dict.fromkeys(getattr(r, n) for r in self.rows)) for n in LeakageRow._fields[:6]}
            raise SettingError(f"There is no row with {wanted}. Fields and their values: {known}.")
        return found

    def matrix(
        self,
        block: str,
        stream: str = "text",
        order: str = "after",
        step: int | None = None,
        of: str = "leak",
    ) -> np.ndarray:
        """Accuracies of telling A (rows) from the channel of B (columns), (attributes, attributes); NaN: not run.

        Args:
            block: A block, or "embedding".
            stream: "text" or "image".
            order: Whether A stands "before" or "after" B.
            step: Step of the sampling loop; the first one by default.
            of: Another number of the same places: "own", "shuffled" or "size".

        Raises:
            SettingError: If there is no such place.
        """
        at = -1 if block == EMBEDDING else self.steps[0] if step is None else step
        found = np.full((len(self.names), len(self.names)), np.nan)
        stream = "text" if block == EMBEDDING else stream
        for row in self.select(block=block, stream=stream, order=order, step=at):
            found[self.names.index(row.source), self.names.index(row.into)] = getattr(row, of)["value"]
        return found

    def to_pandas(self) -> pandas.DataFrame:
        """All rows; of each accuracy the value and the ends of its interval.

        Raises:
            MissingDependencyError: If pandas is not installed.
        """
        return frame([
            dict(zip(LeakageRow._fields[:6], row[:6], strict=True))
            | {
                name if end == "value" else f"{name}_{end}": each[end]
                for name, each in zip(LeakageRow._fields[6:], row[6:], strict=True)
                for end in ("value", "low", "high")
            }
            for row in self.rows
        ])  # fmt: skip

    def _card(self) -> list[Piece]:
        rows = [
            [f"{r.source} from {r.into}", r.order, r.stream, r.block, "" if r.step < 0 else str(r.step)]
            + [said(each) for each in r[6:]]
            for r in self.rows
            if len(self.names) == 2 or r.block == EMBEDDING or r.step == self.steps[0]
        ]
        head = ("A from the channel of B", "A stands", "stream", "block", "step", *HEADS)
        title = (
            f"Leakage (our reading): accuracy of a linear classifier, 0.5 is chance; {self.recipe['carriers']} "
            f"carriers, pooled vector {'as it is' if self.recipe['pooled'] else 'shared'}"
        )
        return [title, Table(rows, head), *too_few(self.recipe["carriers"], "carrier")]

    def plot(self) -> Any:
        """Accuracy over blocks, or for several pairs a matrix for each block; a matplotlib figure."""
        return view("plot_leakage", "findings")(self)


@takes(
    model=MODEL,
    a=ONE | list_of(CONTRAST, "a list of at least two of them"), b=ONE | NOTHING,
    carriers=COUNT | list_of(TEXT, "a list of sentences with {a} and {b} in them"),
    stream=several(one_of("text", "image")), steps=several(INDEX, "a list of steps, e.g. (0, 4)"),
    sampling_steps=COUNT, guidance=NUMBER, pooled=FLAG, seed=SEED,
)  # fmt: skip
def leakage(
    model: Model,
    a: str | tuple[str, str] | Sequence[str | tuple[str, str]],
    b: str | tuple[str, str] | None = None,
    *,
    carriers: int | Sequence[str] = 24,
    stream: str | Sequence[str] = ("text", "image"),
    steps: int | Sequence[int] = (0, 4),
    sampling_steps: int = 8,
    guidance: float | None = None,
    pooled: bool = True,
    seed: int = 0,
) -> Leakage:
    """Tell attribute A from what the attention carries for attribute B; see `ditlens.analysis.leakage`.

    Args:
        model: The model.
        a: The attribute that may leak: one of the model's world (`ditlens.analysis.prompts.ends_of` says
            which two levels), or two phrases. Or a list of attributes: then each is told from the channel of every
            other.
        b: The attribute from whose channel it is told.
        carriers: Number of sentences, in which the world's other attributes stand around both; or sentences of your
            own with ``{a}`` and ``{b}`` in them, at least 4. Each has a seed of its own for the noise.
        stream: Whose channel: "text", "image" or both.
        steps: One or more steps of the sampling loop. At step 0 the image is pure noise and knows nothing; later it
            shows A.
        sampling_steps: Steps of the whole loop, which ends after the last of `steps`.
        guidance: Guidance of sampling; the model's own by default.
        pooled: False gives the four prompts of a carrier one pooled vector, their mean: only tokens can leak.
        seed: Decides carriers and noise.

    Returns:
        Accuracies with intervals over carriers.

    Raises:
        ModelError: If attributes or carriers are to come from the world of a model that has none.
        UnknownAttributeError: If the world has no such attribute.
        SettingError: If a setting is wrong, or the carriers lack a place for a phrase.
        CaptureError: If the words of a prompt cannot be found among its tokens.

    Example:
        >>> found = dl.leakage(model, "smile", "hat", carriers=4, steps=(0,), sampling_steps=2)
        >>> found.blocks, len(found.rows)
        (['joint.0', 'joint.1'], 10)
        >>> embedding = found.select(block="embedding", order="after")[0]
        >>> embedding.own["value"], embedding.leak["n"]
        (1.0, 16)
    """
    several = b is None
    if several and (isinstance(a, str | tuple) or len(a) < 2):
        raise SettingError("Give two attributes, leakage(model, 'smile', 'hat'), or a list of at least two.")
    given = list(a) if several else [a, b]
    contrasts = [_contrast(model, each) for each in given]  # type: ignore[arg-type]
    if len({each.name for each in contrasts}) < len(contrasts):
        raise SettingError(
            f"An attribute cannot leak into itself: {', '.join(each.name for each in contrasts)}."
        )
    steps = sorted(set(map(int, listed(steps))))
    if steps[-1] >= sampling_steps:
        raise SettingError(
            f"steps go from 0 to {sampling_steps - 1} with sampling_steps={sampling_steps}; got {steps}."
        )
    run = Run(
        model, tuple(listed(stream)), steps, sampling_steps,
        model.defaults["guidance"] if guidance is None else guidance, pooled,
    )  # fmt: skip
    rows: list[LeakageRow] = []
    pairs = list(combinations(contrasts, 2))
    with progress_bar("leakage, runs") as show:
        for k, (one, other) in enumerate(pairs):
            templates = _templates(model, one.name, other.name, carriers, seed + k)
            seeds = [seed + 1000 * k + i for i in range(len(templates))]
            for number, order in enumerate(ORDERS, 2 * k):
                said = templates if order == "before" else [swapped(each) for each in templates]
                channels = run(said, seeds, one, other, share_of(show, number, 2 * len(pairs)))
                rows += _rows(one, other, order, channels[other.name], 0, seed)
                if several:
                    rows += _rows(other, one, ORDERS[order == "before"], channels[one.name], 1, seed)
    recipe = {
        "carriers": carriers if isinstance(carriers, int) else len(carriers), "steps": run.steps, "seed": seed,
        "sampling_steps": sampling_steps, "guidance": run.guidance, "pooled": pooled,
    }  # fmt: skip
    return Leakage(tuple(each.name for each in contrasts), tuple(rows), recipe)


# --- prompts -----------------------------------------------------------------------------------------------


def _contrast(model: Model, given: str | tuple[str, str]) -> Contrast:
    """An attribute of the world at two levels, or two phrases."""
    if isinstance(given, tuple):
        return Contrast(" / ".join(given), given)
    world = world_of(model, "two phrases: ('a big smile', 'a big frown')")
    low, high = ends_of(world, given)
    return Contrast(given, (world.phrase(given, low), world.phrase(given, high)))


def _templates(model: Model, a: str, b: str, carriers: int | Sequence[str], seed: int) -> list[str]:
    """Carrier sentences, with A before B."""
    if isinstance(carriers, int):
        if carriers < 4:
            raise SettingError(
                f"carriers is {carriers}; a classifier needs at least 4, and 20 for a narrow interval."
            )
        world = world_of(model, "carriers=, sentences with {a} and {b} in them")
        return [carrier(world, a, b, seed * 10_000 + k) for k in range(carriers)]
    for each in carriers:
        if each.count("{a}") != 1 or each.count("{b}") != 1:
            raise SettingError(
                f"The carrier {each!r} needs {{a}} and {{b}} once each: 'a woman with {{a}} and {{b}}'."
            )
    if len(set(carriers)) < 4:
        raise SettingError(
            "Give at least 4 different carriers: the classifier is tested on some it has not seen."
        )
    return [
        each if each.index("{a}") < each.index("{b}") else swapped(each) for each in dict.fromkeys(carriers)
    ]


def _rows(
    source: Contrast, into: Contrast, order: str, channels: Mapping[Place, np.ndarray], side: int, seed: int
) -> list[LeakageRow]:
    """All places of one channel; `side` says which of the two cell numbers is the source's level."""
    found = []
    for (stream, block, step), features in channels.items():
        levels = np.array(CELLS * (len(features) // 4))
        told = classify(features, levels[:, side], levels[:, 1 - side], seed)
        size = size_of(features, side)
        found.append(LeakageRow(source.name, into.name, order, stream, block, step, *told, size))
    return found
