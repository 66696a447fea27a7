"""How many wishes in other people's words are understood, and how many are silently misread.

    python -m benchmarks.portraits.wishes benchmarks/portraits/wishes_open.jsonl

A list holds one wish a line: the wish, the source's level of every attribute, the levels that each attribute may
have afterwards (``gold``), attributes that may change besides (``may``), and whether it can only be refused
(``refuse``, because the world cannot draw it; ``keep_only``, because nothing is to change). The lists are by others
than the lexicon.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ditlens.errors import CaptionError
from ditlens.worlds.portraits.constraints import settle
from ditlens.worlds.portraits.instructions import parse_instruction


@dataclass(frozen=True)
class Case:
    """A wish that did not go as it should: the levels that it came to, or why it was refused."""

    wish: str
    came_to: dict[str, int]
    wanted: dict[str, Any]
    why: str = ""


@dataclass
class Score:
    """What became of a list.

    Attributes:
        feasible: Wishes that the world can draw.
        understood: Of these: everything wanted is on an accepted level, and nothing else changed.
        refused: Of these: refused.
        infeasible: Wishes that can only be refused.
        refused_rightly: Of these: refused, with two wishes that are understood; or, where nothing is to change,
            nothing changes.
        misread: Wishes of both kinds that came to something else.
    """

    feasible: int = 0
    understood: int = 0
    refused: list[Case] = field(default_factory=list)
    infeasible: int = 0
    refused_rightly: int = 0
    misread: list[Case] = field(default_factory=list)


def score(file: Path) -> Score:
    """Read every wish of a list as the editor does: relative to its source, settled on one level.

    Args:
        file: The list, JSON lines.
    """
    found = Score()
    for row in map(json.loads, file.read_text(encoding="utf-8").splitlines()):
        source: dict[str, int] = row["source"]
        hopeless = row["refuse"] or row.get("keep_only", False)
        found.infeasible += hopeless
        found.feasible += not hopeless
        try:
            known = {name: frozenset({level}) for name, level in source.items()}
            asked = parse_instruction(row["wish"], known)
        except CaptionError as error:
            if hopeless:
                found.refused_rightly += "Did you mean" in str(error)
            else:
                found.refused.append(Case(row["wish"], {}, row["gold"], str(error)))
            continue
        after = source | {name: settle(name, allowed, source[name]) for name, allowed in asked.items()}
        changed = {name: level for name, level in after.items() if level != source[name]}
        reached = all(after[name] in levels for name, levels in row["gold"].items())
        if row.get("keep_only", False) and not changed:
            found.refused_rightly += 1
        elif hopeless or not reached or changed.keys() - row["gold"].keys() - (row.get("may") or {}).keys():
            found.misread.append(Case(row["wish"], changed, row["gold"]))
        else:
            found.understood += 1
    return found


def main(files: list[str]) -> None:
    """Print the score of every list, and what went wrong."""
    for name in files:
        found = score(Path(name))
        print(
            f"{name}: {found.understood} of {found.feasible} understood, {len(found.refused)} refused, "
            f"{found.refused_rightly} of {found.infeasible} rightly refused, {len(found.misread)} misread"
        )
        for kind, cases in (("misread", found.misread), ("refused", found.refused)):
            for case in cases:
                print(f"  {kind}: {case.wish!r} came to {case.came_to}, wanted {case.wanted}. {case.why}")


if __name__ == "__main__":
    main(sys.argv[1:] or [str(path) for path in sorted(Path(__file__).parent.glob("wishes_*.jsonl"))])
