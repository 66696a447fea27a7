"""Finding 2: together they are one disentangled space. Every measurement has its rule beside it."""

from __future__ import annotations

from ditlens.analysis.entanglement import Entanglement, entanglement
from ditlens.analysis.report.findings import Evidence
from ditlens.analysis.report.subject import Subject, ends, mean
from ditlens.metrics.statistics import Estimate, estimate, said
from ditlens.tables import spoken

CLEAR = 0.005
"""Share of chance below which a shift counts as clear."""


def attributes_move_alone(subject: Subject) -> Evidence:
    """The entanglement matrix, and that of the twin as a check that entanglement would be seen."""
    found = entanglement(subject.model, count=subject.count(24), progress=False)
    beside = beside_diagonal(found)
    own = estimate([found.cells[name, name]["value"] for name in found.rows])
    clear = sum(each["p"] < CLEAR for names, each in found.cells.items() if names[0] != names[1])
    largest = ", ".join(f"{spoken(a)} → {spoken(b)} {said(cell)}" for a, b, cell in found.largest(3))
    return Evidence(
        "Images: what else moves when a text moves one attribute",
        2,
        "on average, the distribution of an attribute that the text does not change shifts, beyond chance, by "
        "less than "
        "a tenth of what that of the changed one shifts (ends of both intervals).",
        f"The changed attribute shifts by {said(own)}, the others by {said(beside, 3)}. Clear of chance are "
        f"{clear} of {len(found.cells) - len(found.rows)} cells beside the diagonal, where chance alone gives "
        f"one or two; "
        f"the largest: {largest}.",
        True if beside["high"] < 0.1 * own["low"] else False if beside["low"] > 0.1 * own["high"] else None,
        figures=[(found.plot(), "Matrix of which attribute, moved by the text, moves which in the image.")],
        data={"beside the diagonal": ends(beside), "diagonal": ends(own), "dominance": found.dominance},
    )


def beside_diagonal(found: Entanglement) -> Estimate:
    """Mean of the cells beside the diagonal, with the interval over their rows and columns."""
    cells = [each["value"] for names, each in found.cells.items() if names[0] != names[1]]
    return estimate(cells)


def bias_is_seen(subject: Subject) -> Evidence:
    """The same for a model whose entanglement is known: what does not see that sees nothing."""
    assert subject.twin is not None
    rows, mean_of, clear = [], {}, {}
    for model in (subject.twin, subject.model):
        found = entanglement(
            model, list(subject.tied), moves=subject.tied, count=subject.count(32), progress=False
        )
        cells = {(a, b): found.cell(a, b) for a in subject.tied for b in subject.tied if a != b}
        rows += [
            {"model": model.name, "text moves": spoken(a), "image shifts in": spoken(b), "shift": said(each)}
            for (a, b), each in cells.items()
        ]
        mean_of[model.name] = mean(cells.values())
        clear[model.name] = sum(each["p"] < CLEAR for each in cells.values())
    (twin, own), count = mean_of.values(), len(rows) // 2
    seen = list(clear.values())
    found_it = twin >= 5 * max(own, 0) and seen[0] > count / 2
    conclusion = (
        f"What is not seen in {subject.model.name} is small, then."
        if found_it
        else "With so few pairs the bias is not seen, nor would others be: raise the scale."
    )
    return Evidence(
        "Control: a twin whose bias is known",
        2,
        "the shifts of the attributes that are tied in the twin by its training are, on average, at least 5 "
        "times as large "
        "as the model's own, and most of them are clear of chance.",
        f"They are {twin:.2f} in the twin, where {seen[0]} of {count} are clear of chance, and {own:.3f} in "
        f"{subject.model.name}, where {seen[1]} are. {conclusion}",
        found_it or None,
        decisive=False,
        table=rows,
        data={"mean shift": mean_of, "clear of chance": clear},
    )
