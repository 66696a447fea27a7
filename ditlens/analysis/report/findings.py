"""What a report is made of: findings, the evidence for each, and how a verdict follows from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ditlens.cards import Carded, Piece

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUPPORTED, NOT_SUPPORTED, UNDECIDED = "supported", "not supported", "undecided"
"""The verdicts."""

CLAIMS = {
    1: "The text space and the image space can each be taken apart: an attribute changes without the others.",
    2: "Together they form one disentangled space: a change of the text moves its attribute in the image, and no "
    "other.",
    3: "An effective edit needs both: moving the text alone, or the image alone, is not enough.",
}
"""The three findings of the paper's abstract, in our words."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """One measurement that speaks for or against a finding.

    Attributes:
        name: What was measured.
        finding: Number of the finding that it bears on, see `CLAIMS`.
        rule: What counts as support, fixed before measuring, in a sentence.
        says: What was found, in sentences with numbers and intervals.
        supports: Whether it supports the finding; None if it leaves it open.
        decisive: Whether the verdict depends on it; other evidence is shown beside.
        table: Rows for a table below it.
        figures: Figures, with a text for those who do not see each.
        data: Everything measured, for the JSON file.
        seconds: How long it took.
    """

    name: str
    finding: int
    rule: str
    says: str
    supports: bool | None
    decisive: bool = True
    table: Sequence[Mapping[str, Any]] = ()
    figures: Sequence[tuple[Figure, str]] = field(default=(), repr=False)
    data: Mapping[str, Any] = field(default_factory=dict, repr=False)
    seconds: float = 0.0

    @property
    def verdict(self) -> str:
        """What it says of its finding, in a word."""
        return {True: SUPPORTED, False: NOT_SUPPORTED, None: UNDECIDED}[self.supports]


@dataclass(frozen=True, eq=False, repr=False)
class Report(Carded):
    """What a model says to the findings; from `ditlens.report`. Print it for the verdicts.

    >>> one = Evidence("matrix", 2, "below 0.1", "It is 0.05.", True)
    >>> made = dl.Report("m", {}, [one])
    >>> made.verdict(2), made.verdict(3)
    ('supported', 'undecided')

    Attributes:
        model: Name of the model.
        about: Facts of the run, by name.
        evidence: What was measured.
        left_out: What could not be measured with this model, and why.
    """

    model: str
    about: Mapping[str, str]
    evidence: Sequence[Evidence]
    left_out: Sequence[str] = ()

    def of(self, finding: int) -> list[Evidence]:
        """The evidence that bears on a finding."""
        return [each for each in self.evidence if each.finding == finding]

    def verdict(self, finding: int) -> str:
        """Supported if all decisive evidence supports it, not supported if any speaks against it, or undecided."""
        found = [each.supports for each in self.of(finding) if each.decisive]
        if False in found:
            return NOT_SUPPORTED
        return SUPPORTED if found and all(found) else UNDECIDED

    def _card(self) -> list[Piece]:
        lines: list[Piece] = [f"Report of {self.model}"]
        for number, claim in CLAIMS.items():
            lines.append(f"{number}. {claim}\n   {self.verdict(number).upper()}")
            lines += [f"   - {each.name}: {each.verdict}. {each.says}" for each in self.of(number)]
        return [*lines, *(f"Left out: {each}" for each in self.left_out)]

    def facts(self) -> dict[str, Any]:
        """Everything as plain values, for a JSON file."""
        return {
            "model": self.model, "about": dict(self.about), "left_out": list(self.left_out),
            "findings": [
                {
                    "number": number, "claim": claim, "verdict": self.verdict(number),
                    "evidence": [
                        {
                            "name": each.name, "rule": each.rule, "says": each.says, "verdict": each.verdict,
                            "decisive": each.decisive, "seconds": round(each.seconds, 1),
                            "table": [dict(row) for row in each.table], "data": dict(each.data),
                        }
                        for each in self.of(number)
                    ],
                }
                for number, claim in CLAIMS.items()
            ],
        }  # fmt: skip
