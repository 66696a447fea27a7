"""Ballots: which pairs of results a voter compares, drawn blind, balanced and the same at every call."""

from __future__ import annotations

import hashlib
import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from ditlens.bench.folder import BenchFolder, ResultRecord, read_folder
from ditlens.errors import SettingError

SOURCE, FLIPPED = "(source)", "(upside down)"
"""In place of a method in an attention check: the source itself, and the source turned upside down."""

VOTER = re.compile(r"[0-9a-f]{16}")
"""A voter's code: 16 random hexadecimal digits."""


@dataclass(frozen=True)
class Comparison:
    """Two images side by side, and which methods they hide.

    Attributes:
        number: Its place in the ballot, from 0.
        role: "new"; "shared" (every voter gets it); "repeat" (shown before, sides swapped); and the attention
            checks "twins" (the source twice) and "flipped" (the source, and the source upside down).
        item: Name of the item.
        degree: The editing degree.
        left: The method to the left.
        right: The method to the right.
    """

    number: int
    role: str
    item: str
    degree: float
    left: str
    right: str

    @property
    def is_check(self) -> bool:
        return self.role in ("twins", "flipped")


@dataclass(frozen=True)
class Rules:
    """How ballots are drawn.

    Attributes:
        pairs: Pairs of methods that a voter compares.
        shared: How many of them are the same for all voters, so that their agreement can be measured.
        repeats: Pairs that are shown a second time, sides swapped.
        checks: Attention checks.
        degree: The degree of the results; None for the nearest to 1.
        seed: Another seed draws other ballots.
    """

    pairs: int = 30
    shared: int = 10
    repeats: int = 4
    checks: int = 4
    degree: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.pairs < 1 or min(self.shared, self.repeats, self.checks) < 0:
            raise SettingError("A ballot has at least one pair, and no count is below 0: set pairs=30.")
        if max(self.shared, self.repeats) > self.pairs:
            raise SettingError(
                f"A ballot of {self.pairs} pairs can share or repeat at most {self.pairs} of them: ask for fewer."
            )


Drawn = tuple[str, str, float, str, str]
"""A comparison without its number: role, item, degree, left, right."""


class Ballot:
    """The pairs that one voter compares.

    Args:
        folder: What `ditlens bench edit --out` wrote.
        voter: 16 hexadecimal digits; the same voter gets the same ballot again.
        rules: How many pairs of which kind.

    Attributes:
        voter: The voter's code.
        pairs: The comparisons, in the order in which they are shown.

    Raises:
        SettingError: If the code has another form, or the run has too few results to compare.
    """

    def __init__(self, folder: str | Path | BenchFolder, voter: str, rules: Rules | None = None) -> None:
        if not VOTER.fullmatch(voter):
            raise SettingError(
                f"A voter's code is 16 hexadecimal digits, such as 00c0ffee00c0ffee; got {voter!r}."
            )
        self.voter, self.rules = voter, rules or Rules()
        table = comparable(read_folder(folder), self.rules.degree)
        own, common = _random(self.rules.seed, voter), _random(self.rules.seed, "shared by all")
        shared = _draw(table, self.rules.shared, common)
        fresh = _draw(table, self.rules.pairs - self.rules.shared, own, shared)
        rated: list[Drawn] = [("shared", *drawn) for drawn in shared] + [("new", *drawn) for drawn in fresh]
        own.shuffle(rated)
        asked = _with_sides(rated, own)
        asked = _with_repeats(asked, own.sample(range(len(asked)), self.rules.repeats), own)
        asked = _with_checks(asked, sorted({item for _, item, *_ in asked}), self.rules.checks, own)
        self.pairs = [Comparison(number, *drawn) for number, drawn in enumerate(asked)]

    def __len__(self) -> int:
        return len(self.pairs)


def comparable(bench: BenchFolder, degree: float | None = None) -> dict[tuple[str, float], list[str]]:
    """The methods that have an image, for each item and degree with at least two of them.

    Raises:
        SettingError: If there is none.
    """
    degree = bench.main_degree if degree is None else degree
    table: dict[tuple[str, float], list[str]] = {}
    for row in bench.rows:
        if row.degree == degree and usable(bench, row):
            table.setdefault((row.item, row.degree), []).append(row.method)
    table = {key: sorted(set(methods)) for key, methods in table.items() if len(set(methods)) > 1}
    if not table:
        degrees = ", ".join(f"{d:g}" for d in bench.degrees)
        raise SettingError(
            f"No item has images of two methods at degree {degree:g}, so there is nothing to compare. "
            f"Run two methods, or choose a degree that was run: {degrees}."
        )
    return table


def usable(bench: BenchFolder, row: ResultRecord) -> bool:
    """Whether a result can be shown beside its source."""
    return bool(row.picture and not row.error and bench.items[row.item].picture)


def _random(seed: int, name: str) -> random.Random:
    """A generator of its own for everyone; the same on all machines."""
    return random.Random(hashlib.sha256(f"ditlens ballot {seed} {name}".encode()).digest())


def _draw(
    table: dict[tuple[str, float], list[str]],
    count: int,
    rng: random.Random,
    before: Sequence[tuple[str, float, str, str]] = (),
) -> list[tuple[str, float, str, str]]:
    """Draw pairs so that all pairs of methods, and all items, come equally often as far as possible.

    Nothing comes twice before everything has come once; what was drawn `before` counts.
    """
    options: dict[tuple[str, str], list[tuple[str, float]]] = {}
    for key, methods in table.items():
        for two in combinations(methods, 2):
            options.setdefault(two, []).append(key)
    used_two = Counter((a, b) for _, _, a, b in before)
    used_item = Counter(item for item, *_ in before)
    used = Counter(((a, b), (item, degree)) for item, degree, a, b in before)
    drawn = []
    for _ in range(count):
        two = min(options, key=lambda pair: (used_two[pair], rng.random()))
        key = min(options[two], key=lambda k: (used[two, k], used_item[k[0]], rng.random()))
        used_two[two] += 1
        used_item[key[0]] += 1
        used[two, key] += 1
        drawn.append((*key, *two))
    return drawn


def _with_sides(rated: list[Drawn], rng: random.Random) -> list[Drawn]:
    """Left or right by chance, but every method about equally often on each side."""
    surplus: Counter[str] = Counter()  # how much more often a method was left than right
    asked = []
    for role, item, degree, a, b in rated:
        lean = surplus[a] - surplus[b]
        swap = lean > 0 or (lean == 0 and rng.random() < 0.5)
        left, right = (b, a) if swap else (a, b)
        surplus[left] += 1
        surplus[right] -= 1
        asked.append((role, item, degree, left, right))
    return asked


def _with_repeats(asked: list[Drawn], which: list[int], rng: random.Random) -> list[Drawn]:
    """Show some pairs again, sides swapped, as late as possible after the first time."""
    result = list(asked)
    for index in sorted(which):
        _, item, degree, left, right = asked[index]
        first = result.index(asked[index])
        place = rng.randint(min(first + 1 + len(asked) // 2, len(result)), len(result))
        result.insert(place, ("repeat", item, degree, right, left))
    return result


def _with_checks(asked: list[Drawn], items: list[str], count: int, rng: random.Random) -> list[Drawn]:
    """Spread attention checks over the ballot, one in every part of it; both kinds in turn."""
    result = list(asked)
    degree = asked[0][2]
    for k in reversed(range(count)):
        role, other = ("flipped", FLIPPED) if k % 2 == 0 else ("twins", SOURCE)
        left, right = rng.sample([SOURCE, other], 2)
        start, end = len(asked) * k // count, len(asked) * (k + 1) // count
        result.insert(rng.randint(start, max(start, end)), (role, rng.choice(items), degree, left, right))
    return result
