"""The portraits world behind its door: see `ditlens.worlds.world.World`."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ditlens.arguments import PIXELS, takes
from ditlens.description import Describer
from ditlens.errors import CaptionError, DitlensError, ModelError, SettingError, SuiteError
from ditlens.worlds.portraits import examples
from ditlens.worlds.portraits.attributes import (
    ATTRIBUTES,
    NAMES,
    concatenate,
    describe_values,
    neutral,
    sample,
)
from ditlens.worlds.portraits.browser import words_table
from ditlens.worlds.portraits.captions import compose
from ditlens.worlds.portraits.constraints import satisfies
from ditlens.worlds.portraits.describer import OracleDescriber, PortraitDescriber, change_indices
from ditlens.worlds.portraits.instructions import check_instruction, parse_instruction
from ditlens.worlds.portraits.instructions import instruction as any_instruction
from ditlens.worlds.portraits.measure import drift, hidden, progress, reached
from ditlens.worlds.portraits.oracle import Oracle
from ditlens.worlds.portraits.pairs import target_caption
from ditlens.worlds.portraits.phrases import phrase
from ditlens.worlds.portraits.questions import question
from ditlens.worlds.portraits.reading import parse, remarks
from ditlens.worlds.portraits.render import change_mask, render
from ditlens.worlds.world import SuiteItem, Values, Wanted

SPLITS = {"dev": 600, "test": 770}
"""Splits of the suite. Their seeds are millions times these numbers; no other module uses them.

The test split is a fresh one whenever a setting has been chosen after looking at it: 700, 710, 720, 730, 750 and
760 were the ones before, and 740 has been looked at by mistake.
"""


class Portraits:
    """Cartoon portraits: 18 attributes with an exact renderer, a grammar, an oracle and a describer.

    Args:
        folder: A model's folder, with ``oracle/`` and ``describer/``; without a describer there, the oracle reads
            and the grammar writes.
        device: Where these networks compute.
    """

    name = "portraits"
    attributes = ATTRIBUTES

    def __init__(self, folder: Path | None = None, device: torch.device | str = "cpu") -> None:
        self.folder, self.device = folder, device

    def __getstate__(self) -> dict[str, Any]:
        return {
            "folder": self.folder,
            "device": self.device,
        }  # its networks are loaded again where they are used

    @cached_property
    def oracle(self) -> Oracle:
        """The network that reads attributes from portraits."""
        return Oracle.load(self._folder() / "oracle", self.device)

    @cached_property
    def describer(self) -> Describer:
        """The small multimodal model that writes the texts."""
        if (self._folder() / "describer").is_dir():
            return PortraitDescriber.load(self._folder() / "describer", self.device)
        return OracleDescriber(self.oracle)

    def _folder(self) -> Path:
        if self.folder is None:
            raise ModelError(
                "This world was opened without a model's folder: it draws and writes, but cannot read."
            )
        return self.folder

    @property
    def networks(self) -> Mapping[str, torch.nn.Module]:
        network = getattr(self.describer, "model", None)
        return {"oracle": self.oracle} | ({} if network is None else {"describer": network})

    # --- reading and drawing -----------------------------------------------------------------------

    @takes(images=PIXELS)
    def measure(self, images: torch.Tensor) -> list[dict[str, float | str]]:
        return self.oracle.measure(images)

    @takes(images=PIXELS)
    def redraw(self, images: torch.Tensor) -> torch.Tensor:
        return render(self.oracle.read(images), images.shape[-1])

    def sample(self, count: int, seed: int) -> list[dict[str, float | str]]:
        drawn = sample(count, torch.Generator().manual_seed(seed))
        return [describe_values(drawn, k) for k in range(count)]

    def draw(self, values: Sequence[Values], side: int = 128) -> torch.Tensor:
        return render(concatenate([neutral(1, **dict(each)) for each in values]), side)

    hidden = staticmethod(hidden)

    def change_mask(self, before: Values, wanted: Wanted, side: int) -> torch.Tensor:
        if not wanted:
            raise SettingError(
                "The texts change nothing that this world can draw: leave mask= out, or give one."
            )
        after = {**before, **{name: ATTRIBUTES[name].value_of(level) for name, level in wanted.items()}}
        found = change_mask(neutral(1, **dict(before)), neutral(1, **after), side)
        if not bool(found.any()):
            raise SettingError("The image is already as asked for: the exact mask is empty. Leave mask= out.")
        return found.float()

    # --- words -------------------------------------------------------------------------------------

    def reword(self, source_text: str, instruction: str, known: Values | None = None) -> tuple[str, str]:
        said: dict[str, Any] = {**(known or {}), **parse(source_text)}
        pair = target_caption(source_text, parse_instruction(instruction, source=said), values=known)
        return pair.source_text, pair.target_text

    check_instruction = staticmethod(check_instruction)
    check_caption = staticmethod(remarks)

    def caption(self, levels: Wanted, seed: int | None = None) -> str:
        return compose(levels, None if seed is None else random.Random(seed))

    wanted = staticmethod(change_indices)
    phrase = staticmethod(phrase)
    words_table = staticmethod(words_table)

    # --- judging an edit ---------------------------------------------------------------------------

    drift = staticmethod(drift)
    progress = staticmethod(progress)

    def missed(self, after: Values, wanted: Wanted) -> list[str]:
        return [name for name, there in reached(after, wanted).items() if not there]

    def agreement(self, text: str, values: Values) -> float:
        unseen = hidden(values)
        agree = [right for name, right in satisfies(values, parse(text)).items() if name not in unseen]
        return sum(agree) / len(agree) if agree else float("nan")

    def answers(self, image: torch.Tensor, wanted: Wanted) -> float:
        if not isinstance(self.describer, PortraitDescriber):
            return float("nan")
        right = []
        for name, level in wanted.items():
            try:
                told = parse(self.describer.answer(image, question(name)))
            except DitlensError:
                told = {}
            right.append(level in told.get(name, ()))
        return sum(right) / len(right)

    # --- material ----------------------------------------------------------------------------------

    examples = staticmethod(examples.files)

    def suite(self, count: int, split: str = "test", side: int = 128) -> list[SuiteItem]:
        """Held-out portraits, two thirds with single changes and one third with double ones, about all attributes.

        Texts and masks are exact: the grammar's captions of both portraits, and where their renders differ.
        """
        if split not in SPLITS:
            raise SettingError(f"The portraits suite has the splits {', '.join(SPLITS)}; got {split!r}.")
        if count < 1:
            raise SettingError(f"count is {count}; a suite has at least one edit.")
        return [suite_item(k, split, side) for k in range(count)]


def open_world(folder: Path | None = None, device: torch.device | str = "cpu") -> Portraits:
    """The portraits world; see `Portraits`."""
    return Portraits(folder, device)


def suite_item(k: int, split: str, side: int) -> SuiteItem:
    """Edit `k` of a split: a portrait, an instruction, both captions and the mask."""
    names = list(NAMES)
    round_, place = divmod(k, len(names))
    first, double = names[place], (place + round_) % 3 == 2  # each alone twice, and in a pair once in 3
    rng = random.Random(f"{SPLITS[split]} {k}")
    for attempt in range(100):  # until what changes can be seen
        person = sample(1, torch.Generator().manual_seed(SPLITS[split] * 1_000_000 + 1000 * k + attempt))
        second = rng.choice([n for n in names if n != first])
        try:
            asked = any_instruction(person, 0, rng, names=[first, second] if double else [first])
        except CaptionError:  # hidden in this portrait
            continue
        if len(asked.changes) != 1 + double:  # the second one is
            continue
        values = describe_values(person)
        pair = target_caption(values, asked.changes)
        after = {
            **values,
            **{name: ATTRIBUTES[name].value_of(level) for name, level in asked.changes.items()},
        }
        mask = change_mask(person, neutral(1, **after), side)
        if bool(mask.any()) and pair.changed_spans:
            break
    else:
        raise SuiteError(f"No portrait was found in which {first} can be changed.")
    return SuiteItem(
        f"{split}{k:04d}", "+".join(sorted(asked.changes)), asked.text, pair.source_text, pair.target_text,
        lambda: render(person, side), mask.float(), dict(asked.changes), values, after,
        lambda: render(neutral(1, **after), side), "Apache-2.0, drawn by ditlens",
    )  # fmt: skip
