"""Plain text for the terminal: tables, sizes, progress."""

from __future__ import annotations

import contextlib
import io
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeAlias

from ditlens.errors import MissingDependencyError
from ditlens.tracebacks import shell_of_ipython

if TYPE_CHECKING:
    import pandas

Progress: TypeAlias = Callable[..., None]
"""Called with what is done, the total, and perhaps a few words."""

EVERY = 15.0
"""Seconds between the lines of progress where no bar can be shown."""

WAIT, WAIT_INSIDE = 1.0, 5.0
"""Seconds after which a bar appears, and one inside another: what is done sooner needs none."""

_inside: ContextVar[bool] = ContextVar("inside", default=False)
_listener: ContextVar[Progress | None] = ContextVar("listener", default=None)


def columns(rows: Sequence[Sequence[str]], header: Sequence[str] = (), indent: str = "") -> str:
    """Align `rows` in left-justified columns, two spaces apart, under an optional underlined `header`."""
    lines = [list(header), *map(list, rows)] if header else [list(row) for row in rows]
    if not lines:
        return ""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    if header:
        lines.insert(1, ["-" * width for width in widths])
    aligned = (
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
    )
    return "\n".join(indent + line.rstrip() for line in aligned)


def frame(data: Any, **options: Any) -> pandas.DataFrame:
    """Rows or columns as a table of pandas; options are those of `pandas.DataFrame`.

    Raises:
        MissingDependencyError: If pandas is not installed.
    """
    try:
        from pandas import DataFrame
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"This needs pandas: {error}. Type: pip install 'ditlens[analysis]'."
        ) from error
    return DataFrame(data, **options)


def counted(number: int, noun: str) -> str:
    """A number with its noun.

    >>> counted(1, "site"), counted(12_000, "vote")
    ('1 site', '12000 votes')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def spoken(name: str) -> str:
    """The name of an attribute in words."""
    return name.replace("_", " ")


def human(size: float) -> str:
    """Bytes in a readable unit."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 10 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


@contextlib.contextmanager
def progress_to(listener: Progress) -> Iterator[None]:
    """What runs inside, in this thread, tells a function of its progress in place of bars and lines.

    >>> with progress_to(lambda done, total, words="": print(f"{done} of {total}")), progress_bar("items") as show:
    ...     show(1, 3)
    1 of 3
    """
    before = _listener.get()
    _listener.set(listener)
    try:
        yield
    finally:
        _listener.set(before)


def remark(words: str) -> None:
    """Write a line to standard error, unless the progress goes elsewhere."""
    if _listener.get() is None:
        sys.stderr.write(f"{words}\n")
        sys.stderr.flush()


@contextlib.contextmanager
def progress_bar(name: str, shown: bool | Progress | None = True) -> Iterator[Progress]:
    """Show the progress of something long: a bar in a terminal or notebook, elsewhere a line now and then.

    A bar appears when it has taken a second, in a notebook below the cell, where it goes when all is done.
    Elsewhere everything goes to standard error.

    Args:
        name: What is going on.
        shown: False shows nothing; a function is called instead.

    Returns:
        A context manager that gives the function to call.

    >>> with progress_bar("items", lambda done, total, words: print(f"{done} of {total} {words}")) as show:
    ...     show(1, 3, "first")
    1 of 3 first
    """
    listener = shown if callable(shown) else _listener.get() if shown else None
    if listener is not None:
        yield listener
        return
    from tqdm import std

    line = CellLine.of_notebook()
    bars = line is not None or sys.stderr.isatty()
    begun = started = time.monotonic()
    how: dict[str, Any] = {"leave": not _inside.get()}
    if line is not None:
        how = {"file": line, "position": 0, "leave": False, "ncols": 80, "ascii": False}
    how |= {"delay": WAIT_INSIDE if _inside.get() else WAIT, "disable": not (shown and bars)}
    with std.tqdm(desc=name, **how) as bar, within():

        def show(done: float, total: float, words: str = "") -> None:
            nonlocal started
            if bars:
                bar.total = total
                bar.set_postfix_str(words, refresh=False)
                bar.update(done - bar.n)
            elif shown and (now := time.monotonic()) - started > EVERY:
                started = now
                left = (now - begun) * (total - done) / done if done else 0
                rest = f", {std.tqdm.format_interval(left)} left" if left else ""
                sys.stderr.write(f"{name}: {done}/{total} {words}".rstrip() + f"{rest}\n")
                sys.stderr.flush()

        yield show


def share_of(show: Progress, done: int, total: int) -> Callable[[float], None]:
    """What to call with the share that is done of a part, when so many parts of all are done.

    >>> share_of(print, 3, 10)(0.5)
    3.5 10
    """
    return lambda share: show(done + share, total)


@contextlib.contextmanager
def within() -> Iterator[None]:
    """While a bar is shown."""
    before = _inside.get()
    _inside.set(True)
    try:
        yield
    finally:
        _inside.set(before)


class CellLine(io.TextIOBase):
    """One line below a notebook's cell, as a stream: what is written takes the place of what was there.

    It needs no widgets, so every front end shows it, and when it is emptied nothing of it stays in the notebook.
    """

    def __init__(self, shell: Any) -> None:
        self.shell, self.id, self.begun = shell, uuid.uuid4().hex, False

    @classmethod
    def of_notebook(cls) -> CellLine | None:
        """A line of the notebook that runs this code; None elsewhere."""
        shell = shell_of_ipython()
        return cls(shell) if hasattr(shell, "kernel") else None

    def write(self, text: str) -> int:
        """Show a line; an empty one shows nothing."""
        said = text.strip()
        if said or self.begun:
            data = {"text/plain": said} if said else {"text/plain": "", "text/html": ""}
            self.shell.display_pub.publish(data, transient={"display_id": self.id}, update=self.begun)
            self.begun = True
        return len(text)


def streaks(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """First and last of consecutive numbers: [0, 1, 2, 7] gives (0, 2) and (7, 7)."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


def ranges(numbers: Iterable[int]) -> str:
    """Write {0, 1, 2, 7} as ``0-2, 7``."""
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in streaks(sorted(numbers)))
