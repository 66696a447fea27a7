"""A learner's desk: the lesson that is open in this kernel, its answers so far, and the model that it runs on."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import escape

from ditlens.arguments import PATH, Kind, instance, is_text, takes
from ditlens.cards import Carded, Piece, Table
from ditlens.course.exercise import Exercise, Lesson, Verdict, short
from ditlens.course.lessons import exercise, lesson
from ditlens.errors import MissingDependencyError, ModelError, SettingError
from ditlens.files import read_json, user_path, write_json
from ditlens.models.find import find
from ditlens.models.loading import load
from ditlens.tables import counted
from ditlens.version import __version__

if TYPE_CHECKING:
    from ditlens.models.model import Model

VARIABLE = "DITLENS_MODEL"
"""Environment variable with the name or folder of the model that the notebooks use."""
MARKS = {"# portraits only": "world", "# SD3 only": "sd3"}
"""How a cell begins that not every model can run, and what of `Desk` has to be true: that the model has a world
(oracle, exact masks, labelled studies); that it is an SD3, with its modules and a second pass for guidance."""
NEEDED = {"matplotlib": "views", "ipywidgets": "views", "scikit-learn": "analysis"}
"""Packages that the notebooks need, and the extras that bring them."""
FORMAT = "ditlens-course-1"
NOTEBOOK = Kind("the number of a notebook as a text, e.g. '05'", is_text)
EXERCISE = Kind("the number of an exercise as a text, e.g. '05.2'", is_text)


@dataclass
class Entry:
    """What is known of one exercise at a desk."""

    answer: str = ""
    right: bool | None = None
    diagnosis: str = ""
    attempts: int = 0
    hints: int = 0


@dataclass
class Desk:
    """What one kernel remembers.

    Attributes:
        lesson: The lesson that was begun last.
        model: Name of the model in use.
        world: Whether it has an oracle and the like.
        sd3: Whether it is an SD3 or SD3.5.
        entries: What was answered, by exercise.
    """

    lesson: Lesson | None = None
    model: str = "portraits"
    world: bool = True
    sd3: bool = True
    entries: dict[str, Entry] = field(default_factory=dict)

    def entry(self, id: str) -> Entry:
        """What is known of an exercise."""
        return self.entries.setdefault(id, Entry())


DESK = Desk()


@takes(number=NOTEBOOK)
def start(number: str) -> Started:
    """Begin a lesson: look whether what it needs is installed, and say which model it will use.

    >>> dl.course.start("00")
    00 · Start here
    ...

    Args:
        number: Number of the notebook, ``"00"`` to ``"12"``.

    Returns:
        What the lesson is about, as a card.

    Raises:
        SettingError: If there is no such lesson.
        MissingDependencyError: If a package is missing that the lessons need.
        ModelError: If the environment variable ``DITLENS_MODEL`` names no model.
    """
    DESK.lesson = lesson(number)
    missing = {name: extra for name, extra in NEEDED.items() if not is_installed(name)}
    if missing:
        extras = ",".join(sorted(set(missing.values())))
        raise MissingDependencyError(
            f"The notebooks need {', '.join(missing)}, which is not installed. "
            f'Type in a new cell: %pip install "ditlens[{extras}]"   and restart the kernel.'
        )
    DESK.model = chosen_model()
    skip_marked_cells()
    return Started(DESK.lesson, DESK.model)


def chosen_model() -> str:
    """Name or folder of the model of the course.

    Raises:
        ModelError: If the environment variable names none.
    """
    name = os.environ.get(VARIABLE) or "portraits"
    try:
        find(name)
    except ModelError as error:
        raise ModelError(f"The environment variable {VARIABLE} names the model. {error}") from error
    return name


def is_installed(name: str) -> bool:
    """Whether a package is there, without importing it."""
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


@dataclass(frozen=True, repr=False)
class Started(Carded):
    """A lesson that was begun: what it is about, and on which model."""

    lesson: Lesson
    model: str

    def _card(self) -> list[Piece]:
        done = f"about {self.lesson.minutes} minutes, {len(self.lesson.exercises)} exercises"
        other = "" if self.model == "portraits" else f" ({VARIABLE} names it)"
        return [
            f"{self.lesson.number} · {self.lesson.title}",
            f"ditlens {__version__}, model {self.model}{other}; {done}. Everything that it needs is installed.",
        ]


def model() -> Model:
    """Load the model of the course: portraits, or the one that the environment variable ``DITLENS_MODEL`` names.

    With a model that has no oracle the cells that begin with ``# portraits only`` say so instead of running, and
    with one that is no SD3 those that begin with ``# SD3 only``.

    >>> dl.course.model().name
    'portraits'
    """
    loaded = load(chosen_model())
    DESK.model, DESK.world = loaded.name, loaded.world is not None
    DESK.sd3 = loaded.pipeline == "StableDiffusion3Pipeline"
    return loaded


def skip_marked_cells() -> None:
    """Let IPython ask `skipped` before it runs a cell."""
    try:
        shell = get_ipython()  # type: ignore[name-defined]
    except NameError:  # a plain Python
        return
    transformers = shell.input_transformers_cleanup
    transformers[:] = [each for each in transformers if getattr(each, "__name__", "") != skipped.__name__]
    transformers.append(skipped)


def skipped(lines: list[str]) -> list[str]:
    """A cell as it is; if it is marked as one that the model cannot run, a cell that says so."""
    first = next((line.strip() for line in lines if line.strip()), "")
    for mark, need in MARKS.items():
        if first.startswith(mark) and not getattr(DESK, need):
            said = f"Skipped with the model {DESK.model}: {first.removeprefix('# ')}."
            return [f"print({said!r})\n"]
    return lines


@takes(id=EXERCISE)
def check(id: str, answer: Any = ...) -> Verdict:
    """Judge an answer, and say which known wrong idea it shows, if it shows one.

    >>> dl.course.check("00.1", ...).right is None
    True

    Args:
        id: Number of the exercise, ``"05.2"``.
        answer: The answer; ``...`` stands for none yet.

    Returns:
        The verdict: `right` is True, False, or None if there is nothing to judge.

    Raises:
        SettingError: If there is no such exercise.
    """
    found = exercise(id)
    verdict, entry = found.verdict(answer), DESK.entry(found.id)
    if verdict.right is not None:
        entry.attempts += 1
        if verdict.right or not entry.right:  # who was right may go on and try
            entry.answer, entry.right = short(answer), verdict.right
            entry.diagnosis = "" if verdict.right else verdict.says
    return verdict


@dataclass(frozen=True, repr=False)
class Hint(Carded):
    """One hint of the ladder of an exercise."""

    exercise: Exercise
    rung: int

    def _card(self) -> list[Piece]:
        total = len(self.exercise.hints)
        return [f"{self.exercise.id} · hint {self.rung + 1} of {total}", self.exercise.hints[self.rung]]


@takes(id=EXERCISE)
def hint(id: str) -> Hint:
    """Give the next hint of an exercise: from a nudge to nearly everything; the last one stays.

    >>> dl.course.hint("00.1")
    00.1 · hint 1 of ...

    Args:
        id: Number of the exercise, ``"05.2"``.

    Raises:
        SettingError: If there is no such exercise.
    """
    found = exercise(id)
    entry = DESK.entry(found.id)
    entry.hints = min(entry.hints + 1, len(found.hints))
    return Hint(found, entry.hints - 1)


@dataclass(frozen=True, repr=False)
class Overview(Carded):
    """The exercises of a lesson, and how far one is."""

    lesson: Lesson
    entries: dict[str, Entry]

    def _card(self) -> list[Piece]:
        marks = {True: "✓ right", False: "✗ not yet", None: "○ open"}
        known = {each.id: self.entries.get(each.id, Entry()) for each in self.lesson.exercises}
        rows = [
            (f"{each.id}", each.title, each.stars, marks[known[each.id].right])
            for each in self.lesson.exercises
        ]
        right = sum(each.right is True for each in known.values())
        return [
            f"{right} of {len(rows)} exercises of notebook {self.lesson.number} are right",
            Table(rows, ("exercise", "", "difficulty", "")),
        ]


@takes(number=NOTEBOOK)
def exercises(number: str | None = None) -> Overview:
    """List the exercises of a lesson with what was answered in this kernel.

    >>> dl.course.exercises("00")
    0 of ...

    Args:
        number: Number of the notebook; by default the one that was begun with `start`.

    Raises:
        SettingError: If there is no such lesson, or none was begun.
    """
    if number is None and DESK.lesson is None:
        raise SettingError('No lesson was begun in this kernel. Say which: course.exercises("05")')
    chosen = DESK.lesson if number is None else lesson(number)
    assert chosen is not None
    return Overview(chosen, DESK.entries)


@dataclass(frozen=True, repr=False)
class HandedIn(Carded):
    """What was written to hand in.

    Attributes:
        file: The file.
        name: Whose.
        exercises: What is in it, by exercise.
    """

    file: Path
    name: str
    exercises: dict[str, dict[str, Any]]

    def _card(self) -> list[Piece]:
        right = sum(entry["right"] is True for entry in self.exercises.values())
        lessons = sorted({id.partition(".")[0] for id in self.exercises})
        count = counted(len(self.exercises), "exercise")
        said = f"{count} of notebooks {', '.join(lessons) or 'none'}, {right} right."
        return [f"Wrote {self.file.absolute()}, of {self.name}: {said}"]


def is_entry(value: Any) -> bool:
    """Whether a value from a file of results is what is known of an exercise."""
    return isinstance(value, dict) and value.keys() == vars(Entry()).keys()


@takes(path=PATH, name=instance("your name, e.g. 'Ada'", str))
def results(path: str | Path, name: str) -> HandedIn:
    """Write what was answered to a file to hand in; answers of other notebooks that are in it stay.

    One JSON file for the whole course: the learner's name, and for each exercise the answer, whether it is right,
    the diagnosis, and how many attempts and hints it took.

    >>> _ = dl.course.check("00.1", 0.5)
    >>> dl.course.results("ada.json", name="Ada")
    Wrote ...ada.json, of Ada: ...

    An exercise that was once right stays right, whatever is tried after, also in another kernel; attempts and hints
    are those of the kernel that took more.

    Args:
        path: The file, ``.json``; an existing one must be of the same person.
        name: Who hands it in.

    Raises:
        SettingError: If the file is there and is something else, or somebody else's, the name is empty, or nothing
            was answered.
        WriteError: If it cannot be written.
    """
    if not name.strip():
        raise SettingError("The name is empty: whose are the answers? E.g. name='Ada'.")
    file = user_path(path)
    if file.suffix.lower() != ".json":
        raise SettingError(f"{file} must end in .json, e.g. course.results('results.json', name={name!r}).")
    kept: dict[str, Any] = {}
    if file.exists():
        there = read_json(file, "file of results", SettingError)
        if there.get("format") != FORMAT:
            raise SettingError(f"{file} is no file of course results. Choose another name.")
        if there.get("name") != name:
            raise SettingError(f"{file} is of {there.get('name')!r}, not of {name!r}. Choose another name.")
        kept = there.get("exercises")
        if not (isinstance(kept, dict) and all(map(is_entry, kept.values()))):
            raise SettingError(f"{file} is damaged: its exercises cannot be read. Choose another name.")
    answered = {id: vars(entry) for id, entry in DESK.entries.items() if entry.attempts or entry.hints}
    if not answered and not kept:
        raise SettingError(
            "Nothing to hand in: no exercise was checked in this kernel, e.g. course.check('00.1', 1)."
        )
    for id in kept.keys() & answered.keys():  # of an earlier kernel: what was right stays right
        before, now = kept[id], answered[id]
        better = before if before["right"] and not now["right"] else now
        answered[id] = better | {count: max(before[count], now[count]) for count in ("attempts", "hints")}
    content: dict[str, Any] = {
        "format": FORMAT,
        "name": name,
        "ditlens": __version__,
        "model": DESK.model,
        "written": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "exercises": dict(sorted((kept | answered).items())),
    }
    write_json(file, content)
    return HandedIn(file, name, content["exercises"])


@takes(number=NOTEBOOK)
def diagram(number: str) -> Diagram:
    """Show the diagram of a lesson.

    >>> dl.course.diagram("00")
    Diagram of notebook 00: ...

    Raises:
        SettingError: If there is no such lesson.
    """
    return Diagram(lesson(number).stem)


@dataclass(frozen=True, repr=False)
class Diagram:
    """A drawing that notebooks show; its file may be used elsewhere, CC BY 4.0.

    Attributes:
        stem: Name of its file, without ending.
    """

    stem: str

    @property
    def file(self) -> Path:
        """The SVG file."""
        return Path(__file__).parent / "diagrams" / f"{self.stem}.svg"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        """As a picture in HTML, which JupyterLab shows in notebooks that it does not trust; and as SVG."""
        drawn = self.file.read_text("utf-8")
        address = f"data:image/svg+xml;base64,{base64.b64encode(drawn.encode()).decode()}"
        html = f'<img alt="{escape(repr(self))}" src="{address}" style="max-width: 100%">'
        return {"text/html": html, "image/svg+xml": drawn, "text/plain": repr(self)}

    def __repr__(self) -> str:
        said = self.file.read_text("utf-8").partition("<desc>")[2].partition("</desc>")[0]
        return f"Diagram of notebook {self.stem[:2]}: {' '.join(said.split())}"
