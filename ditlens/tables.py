"""Plain text for the terminal: tables, sizes, progress."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from ditlens.errors import MissingDependencyError

if TYPE_CHECKING:
    import pandas

Progress: TypeAlias = Callable[..., None]
"""Called with what is done, the total, and perhaps a few words."""

EVERY = 15.0
"""Seconds between the lines of progress where no bar can be shown."""


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
def progress_bar(name: str, shown: bool | Progress | None = True) -> Iterator[Progress]:
    """Show the progress of something long: a bar in a terminal or notebook, elsewhere a line now and then.

    Both go to standard error.

    Args:
        name: What is going on.
        shown: False shows nothing; a function is called instead.

    Returns:
        A context manager that gives the function to call.

    >>> with progress_bar("items", lambda done, total, words: print(f"{done} of {total} {words}")) as show:
    ...     show(1, 3, "first")
    1 of 3 first
    """
    if callable(shown):
        yield shown
        return
    from tqdm import auto, std

    bars = auto.notebook_tqdm is not std.tqdm or sys.stderr.isatty()
    begun = started = time.monotonic()
    with auto.tqdm(desc=name, disable=not (shown and bars)) as bar:

        def show(done: float, total: float, words: str = "") -> None:
            nonlocal started
            if bars:
                bar.total = total
                bar.set_postfix_str(words, refresh=False)
                bar.update(done - bar.n)
            elif shown and (now := time.monotonic()) - started > EVERY:
                started = now
                left = (now - begun) * (total - done) / done if done else 0
                rest = f", {auto.tqdm.format_interval(left)} left" if left else ""
                sys.stderr.write(f"{name}: {done}/{total} {words}".rstrip() + f"{rest}\n")
                sys.stderr.flush()

        yield show


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
