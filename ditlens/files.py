"""Files: paths as people give them, writing whole or not at all, checksums, the one reader of people's texts."""

from __future__ import annotations

import codecs
import contextlib
import csv
import errno
import hashlib
import io
import json
import os
import re
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from ditlens.errors import DitlensError, SettingError, WriteError

PACKAGE = Path(__file__).parent
DATA = next((f for f in (PACKAGE / "data", PACKAGE.parent / "data") if f.is_dir()), PACKAGE / "data")
"""The shipped models and examples: inside the installed package, or beside it in a clone of the repository."""
STALE = 300.0
"""Seconds without a touch after which a claim or an unfinished file counts as abandoned."""
WAITS = (0.02, 0.05, 0.1, 0.2, 0.4)
"""Seconds between the attempts of `patiently`."""
BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
"""Byte-order marks at the start of a text file, and the encoding that each announces."""
T = TypeVar("T")


# --- paths that people give -----------------------------------------------------------------------------------


def user_path(given: str | os.PathLike[str], error: type[Exception] = SettingError) -> Path:
    """A path as people give it: it may begin with ``~``, stand in quotes, or be a ``file:`` URL.

    Args:
        given: The path; nothing needs to be there.
        error: What to raise if it cannot be one.

    Raises:
        SettingError: Or another `error`, which says why: it is empty, an address of the web, too long, or holds
            characters that no file's name can have.

    >>> user_path("'my portrait.png'").name, user_path("file:///home/zoe/my%20portrait.png").name
    ('my portrait.png', 'my portrait.png')
    """
    text = os.fspath(given) if isinstance(given, str | os.PathLike) else None
    if not (isinstance(text, str) and text.strip()):
        raise error(f"A path is a text that is not empty, or a pathlib.Path; got {given!r:.80}.")
    shown = repr(text) if len(text) < 300 else f"{text[:100]!r}..."
    if text[0] in "\"'" and text[-1] == text[0] and len(text) > 2:
        text = text[1:-1]
    if text.lower().startswith("file:"):
        try:
            url = urlsplit(text)
        except ValueError as reason:
            raise error(f"{shown} is no address that can be read ({reason}).") from reason
        if url.netloc not in ("", "localhost"):
            raise error(f"{shown} is a file of another computer, {url.netloc}. Copy it to this one first.")
        text = re.sub(r"^/(?=[A-Za-z]:)", "", unquote(url.path))  # the drive of Windows
    elif address := re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text):
        raise error(
            f"{shown} is an address ({address[0]}), not a file. Download it first, and give its path."
        )
    text = os.path.expanduser(text)
    there = os.path.lexists(text)
    try:
        os.lstat(text)
    except ValueError as reason:
        raise error(f"{shown} holds a character that no file's name can have ({reason}).") from reason
    except OSError as reason:
        if reason.errno == errno.ENAMETOOLONG:
            raise error(f"{shown} is a name too long for the file system. Choose a shorter one.") from reason
    if text.startswith("~") and not there:
        raise error(
            f"There is no user {text.partition('/')[0][1:]!r}. For a name that begins with ~: ./{text}"
        )
    return Path(text)


def keep_inputs(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Refuse to write over a file that was read.

    Raises:
        SettingError: If an output is one of the inputs, under whatever name.
    """
    there = [given for given in inputs if os.path.exists(given)]
    for path in outputs:
        if os.path.exists(path) and any(path.samefile(given) for given in there):
            raise SettingError(
                f"{path} is what this was made from: it is never overwritten. Choose another place."
            )


# --- writing --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Say of an `OSError` in the block which file could not be written, why, and what to do.

    Raises:
        WriteError: Instead of the `OSError`.
    """
    try:
        yield
    except DitlensError:
        raise
    except OSError as reason:
        remedy = {
            errno.ENOSPC: "Make room on the disk, or choose another place.",
            errno.EDQUOT: "Delete what you no longer need: your share of the disk is used up.",
            errno.ENAMETOOLONG: "Choose a shorter name.",
        }.get(reason.errno or 0, "Choose another place, or change the permissions of this one.")
        error = WriteError(f"{path} could not be written: {reason.strerror or reason}. {remedy}")
        error.strerror = reason.strerror
        raise error from reason


@contextlib.contextmanager
def writing_whole(path: Path) -> Iterator[Path]:
    """Write a file so that it is there whole or not at all, also after a power cut.

    The block writes to the temporary path that it is given; when it ends, the file is flushed to disk and renamed.
    A file that was there keeps its permissions, a new one has those of any new file, whatever the block's library
    prefers; a link stays a link. File systems that refuse to change permissions or to flush are left to do as they
    do.

    Args:
        path: The file to write; its folder is created.

    Raises:
        WriteError: If it cannot be written. What was there before is unharmed.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "notes.txt"
    >>> with writing_whole(path) as partial:
    ...     _ = partial.write_text("all of it")
    >>> path.read_text(), len(list(path.parent.iterdir()))
    ('all of it', 1)
    """
    with write_errors(path):
        path = Path(os.path.realpath(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():
            raise OSError(errno.EISDIR, "It is a folder or a device")
        writer = f"{socket.gethostname()}.{os.getpid()}.{secrets.token_hex(4)}"
        partial = path.with_name(f".{path.name[:30]}.{writer}.tmp")
        try:
            partial.open("xb").close()
            mode = (path if path.exists() else partial).stat().st_mode
            yield partial
            with contextlib.suppress(OSError):
                partial.chmod(mode)
            with partial.open("r+b") as file:
                _flush(file.fileno())
            patiently(lambda: os.replace(partial, path))
        except BaseException:
            with contextlib.suppress(OSError):
                partial.unlink()
            raise
    with contextlib.suppress(OSError):  # Windows opens no folders
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _flush(descriptor: int) -> None:
    """Wait until a file is on the disk, where the file system can say so."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            raise


@contextlib.contextmanager
def writing_folder(folder: Path) -> Iterator[Path]:
    """Write files of a folder with a library that takes the folder's name; each with `writing_whole`, at the end.

    The block writes to a temporary folder. Other files of the folder stay.
    """
    with write_errors(folder), tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        yield Path(place)
        for path in sorted(path for path in Path(place).rglob("*") if path.is_file()):
            with writing_whole(folder / path.relative_to(place)) as partial:
                shutil.copyfile(path, partial)


def new_file(path: str | Path, suffix: str, overwrite: bool) -> Path:
    """The file to write.

    Raises:
        SettingError: If its name does not end in the suffix, or it is there already and may not be overwritten.
    """
    file = user_path(path)
    if file.suffix.lower() != suffix:
        raise SettingError(f"{file}: the name must end in {suffix}, e.g. '{file.name}{suffix}'.")
    if file.exists() and not overwrite:
        raise SettingError(f"{file} is there already. Choose another name, or overwrite it: overwrite=True.")
    return file


def write_whole(path: Path, data: bytes | str) -> None:
    """Write bytes, or a text as UTF-8, with `writing_whole`."""
    write_parts(path, [data.encode() if isinstance(data, str) else data])


def as_json(value: Any) -> bytes:
    """A value as indented JSON."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON with `writing_whole`."""
    write_whole(path, as_json(value))


def write_parts(path: Path, parts: Iterable[Any]) -> None:
    """Write bytes and arrays one after the other, never together in memory, with `writing_whole`."""
    with writing_whole(path) as partial, partial.open("wb") as file:
        for part in parts:
            file.write(part)


def append_whole(path: Path, data: bytes) -> None:
    """Append bytes to a file, and wait until they are on the disk; its folder is created.

    Raises:
        WriteError: If they cannot be written. The file is as it was.
    """
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab", buffering=0) as file:
            end, rest = file.seek(0, os.SEEK_END), memoryview(data)
            try:
                while rest:
                    rest = rest[file.write(rest) :]
                _flush(file.fileno())
            except BaseException:
                file.truncate(end)
                raise


def patiently(action: Callable[[], T]) -> T:
    """Call a function again, for under a second, while it is refused: Windows locks files that somebody reads."""
    for wait in WAITS:
        try:
            return action()
        except PermissionError:
            time.sleep(wait)
    return action()


def user_cache(name: str) -> Path:
    """The folder in the user's cache for what is made once and can be made again."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("ditlens", appauthor=False), name)


def checksum(path: Path) -> str:
    """The SHA-256 of a file, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


# --- reading what people wrote --------------------------------------------------------------------------------


def read_text(path: Path, kind: str, error: type[DitlensError]) -> str:
    r"""Text of a file that a person wrote: UTF-8 with or without a byte-order mark, or UTF-16 with one.

    Args:
        path: The file.
        kind: What it should hold, for the message: ``"a list of prompts"``.
        error: What to raise if it cannot be read.

    Raises:
        DitlensError: An `error` that names file, position and remedy.

    >>> import tempfile
    >>> from ditlens.errors import StudyError
    >>> path = Path(tempfile.mkdtemp()) / "names.txt"
    >>> _ = path.write_bytes("Zoë".encode("utf-16"))
    >>> read_text(path, "a list of names", StudyError)
    'Zoë'
    """
    try:
        data = path.read_bytes()
    except OSError as reason:
        why = reason.strerror or reason
        raise error(f"{path} cannot be read as {kind}: {why}. Check its name and permissions.") from reason
    mark, encoding = next((found for found in BOMS if data.startswith(found[0])), (b"", "utf-8"))
    data = data[len(mark) :]
    try:
        text = data.decode(encoding)
        before, found = text.partition("\0")[::2] if "\0" in text else (text, None)
        what = "there is a NUL character, which no text has"
    except UnicodeDecodeError as wrong:
        before, found = data[: wrong.start].decode(encoding), ""
        what = f"the byte 0x{data[wrong.start]:02X} is not {encoding[:6].strip('-').upper()}"
    if found is None:
        return text
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    where = f"line {line}, column {column}"
    raise error(f"{path} cannot be read as {kind}: at {where}, {what}. Save it as UTF-8 in your editor.")


def read_lines(path: Path, kind: str, error: type[DitlensError]) -> list[str]:
    r"""Lines of a file that a person wrote; they end at ``\n`` or ``\r\n`` and nowhere else.

    Args, Raises: As `read_text`.
    """
    lines = read_text(path, kind, error).replace("\r\n", "\n").split("\n")
    return lines if lines[-1] else lines[:-1]


def read_json(path: Path, kind: str, error: type[DitlensError], *, expect: type = dict) -> Any:
    """Value of a JSON file, by default an object.

    Args, Raises: As `read_text`; `expect` is ``dict`` for an object, ``list`` for a list.
    """
    try:
        value = json.loads(read_text(path, kind, error))
        if isinstance(value, expect):
            return value
        what = f"not a JSON {'list' if expect is list else 'object'}"
    except json.JSONDecodeError as wrong:
        what = f"not valid JSON at line {wrong.lineno}, column {wrong.colno} ({wrong.msg})"
    except RecursionError:
        what = "nested too deeply for JSON"
    raise error(damaged(path, kind, what))


def damaged(path: Path, kind: str, what: str) -> str:
    """The message about a file that cannot be parsed."""
    return f"{path} is damaged: as {kind} it is {what}. Restore it, or correct it in an editor."


def read_csv(path: Path, kind: str, error: type[DitlensError]) -> tuple[list[str], list[dict[str, str]]]:
    """Column names of a CSV file, and its rows as dictionaries; a cell that a row lacks is an empty text.

    Args, Raises: As `read_text`.
    """
    reader = csv.DictReader(io.StringIO(read_text(path, kind, error), newline=""), restval="", strict=True)
    try:
        rows = list(reader)
    except csv.Error as wrong:
        what = f"not valid CSV at line {reader.reader.line_num} ({wrong})"
        raise error(damaged(path, kind, what)) from wrong
    return list(reader.fieldnames or []), [{k: v for k, v in row.items() if k is not None} for row in rows]


# --- what killed writers leave --------------------------------------------------------------------------------


def remove_leftovers(folder: Path) -> None:
    """Remove the unfinished files of writers that were killed."""
    for path in [*folder.glob(".*.tmp"), *folder.glob("*/.*.tmp")]:
        with contextlib.suppress(FileNotFoundError):  # another worker was quicker
            if _is_leftover(path):
                path.unlink()


def _is_leftover(path: Path) -> bool:
    """Whether the writer of an unfinished file has ended; the file's name says who that was."""
    start, _, rest = path.name.partition(f".{socket.gethostname()}.")
    number = rest.partition(".")[0]
    here = bool(start) and number.isdecimal()
    return (here and is_gone(int(number))) or time.time() - path.stat().st_mtime > STALE


def is_gone(number: int, start: float | None = None) -> bool:
    """Whether a process of this machine has ended; its number may belong to another since.

    Args:
        number: The process number.
        start: When it began, in seconds since 1970; not compared if unknown.
    """
    import psutil

    try:
        process = psutil.Process(number)
        if process.status() == psutil.STATUS_ZOMBIE:  # it has ended, and its parent has not looked yet
            return True
        return start is not None and abs(process.create_time() - start) > 2
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return False
