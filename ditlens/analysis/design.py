"""Prompts of a study from which attributes can be told apart: a balanced design."""

from __future__ import annotations

import random
from typing import Any, NamedTuple

from ditlens.analysis.prompts import level_names
from ditlens.arguments import COUNT, NUMBER, SEED, Kind, takes
from ditlens.tables import counted
from ditlens.worlds.world import World, missing_of

CARRIERS = 20
"""Ways of wording a prompt; probes are tested on ways that they have not seen."""
WORLD = Kind("a world, model.world of a model that has one", lambda value: not missing_of(value))
UNNAMED = -1
SHARE = Kind("a share above 0 and up to 1, e.g. 0.35", lambda value: NUMBER.fits(value) and 0 < value <= 1)


class Design(NamedTuple):
    """Prompts for `plan_study`, whose other arguments have the same names.

    Attributes:
        prompts: The texts.
        seeds: A seed for each prompt; pass ``paired=True`` with them.
        columns: ``"carrier"``, the way of wording, from 0; and for every attribute ``"named NAME"``, the level or
            value that the prompt names, None where it names none.
    """

    prompts: list[str]
    seeds: list[int]
    columns: dict[str, list[Any]]

    def __repr__(self) -> str:
        first = self.prompts[0] if self.prompts else ""
        return (
            f"Design of {counted(len(self.prompts), 'prompt')}, a seed each; columns {', '.join(self.columns)}\n"
            f"  the first: {first}"
        )


@takes(world=WORLD, count=COUNT, seed=SEED, named=SHARE)
def design(world: World, count: int, seed: int = 0, *, named: float = 0.35) -> Design:
    """Prompts in which attributes are named independently of one another, each of its levels equally often.

    Of every attribute, a share of the prompts names a level, the others leave it to the model; all its levels are
    named equally often, and so is each way of wording. The order is drawn for each attribute on its own, so that
    none predicts another: their correlations are those of chance, about ``1 / sqrt(count)``. A probe cannot read
    one attribute off another.

    >>> from ditlens.worlds.world import open_world
    >>> made = dl.design(open_world("portraits"), 3, seed=1)
    >>> made.prompts[0]
    'narrow eyes, narrow face, sad eyebrows, young person, blue backdrop'
    >>> made.seeds, made.columns["named smile"]
    ([1484771968, 1484771969, 1484771970], [None, None, 'a big frown'])

    Args:
        world: Names the attributes and writes the texts.
        count: Number of prompts.
        seed: Decides everything that is drawn.
        named: Share of the prompts that names each attribute.

    Raises:
        SettingError: If an argument is wrong.
    """
    rng = random.Random(seed)
    chosen = {
        name: column(len(level_names(spec)), count, named, rng) for name, spec in world.attributes.items()
    }
    carriers = column(CARRIERS, count, 1, rng)
    prompts: list[str] = []
    columns: dict[str, list[Any]] = {"carrier": carriers, **{f"named {name}": [] for name in chosen}}
    for k in range(count):
        levels = {name: numbers[k] for name, numbers in chosen.items() if numbers[k] != UNNAMED}
        values = {name: world.attributes[name].value_of(level) for name, level in levels.items()}
        for name in world.hidden(values):  # a text that names what nobody can see contradicts itself
            levels.pop(name, None)
        prompts.append(world.caption(levels, carriers[k]))
        for name, spec in world.attributes.items():
            columns[f"named {name}"].append(level_names(spec)[levels[name]] if name in levels else None)
    first = rng.randrange(2**31)
    return Design(prompts, [first + k for k in range(count)], columns)


def column(levels: int, count: int, share: float, rng: random.Random) -> list[int]:
    """Numbers of levels in random order, each equally often, in a share of the places; `UNNAMED` in the others."""
    filled = round(share * count)
    values = [k % levels for k in range(filled)] + [UNNAMED] * (count - filled)
    rng.shuffle(values)
    return values
