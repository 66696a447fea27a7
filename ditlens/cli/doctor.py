"""Is this installation sound? Every check says what it found and, if something is wrong, what to type."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from importlib import import_module, metadata
from pathlib import Path
from typing import Literal, NamedTuple

from ditlens.files import DATA, PACKAGE, checksum
from ditlens.tables import columns, counted

ROOT = PACKAGE.parent
CLONE = (ROOT / ".git").exists() and (ROOT / "pyproject.toml").is_file()
"""Whether ditlens runs from a clone of its repository, `ROOT` (`pip install -e .`)."""
CONSTRAINTS = ROOT / "constraints.txt"
"""Pinned versions, in a clone."""

OLDEST, NEWEST = (3, 10), (3, 14)
EXTRAS = ("analysis", "views", "dev")
"""The extras whose packages are looked at; the tools of development, dev, in a clone only."""
IMPORTED_AS = {"pillow": "PIL", "scikit-learn": "sklearn", "umap-learn": "umap"}
"""Modules that are not called as their packages are."""
GB = 2**30
NEEDED = 2 * GB
"""Free memory, and free space on the disk, in bytes."""

Status = Literal["ok", "warn", "fail"]


class Check(NamedTuple):
    """One line of the report.

    Attributes:
        name: What was looked at.
        status: ``ok``; ``warn``, something may not work; ``fail``, something does not.
        found: What is there.
        fix: What to type, empty if all is well.
    """

    name: str
    status: Status
    found: str
    fix: str = ""


def examine() -> list[Check]:
    """Run every check. A check that breaks is reported as failed and does not stop the others."""
    found: list[Check] = []
    for look in CHECKS:
        try:
            found += look()
        except Exception as error:  # a broken package can raise anything when it is imported
            name = look.__name__.removeprefix("check_")
            found.append(Check(name, "fail", f"{type(error).__name__}: {error}", reinstall()))
    return found


def report(checks: list[Check]) -> str:
    """Lay the checks out as a table, with a closing line that counts the problems."""
    count = Counter(check.status for check in checks)
    if count["warn"] or count["fail"]:
        closing = f"{count['fail']} failed, {count['warn']} to look at: the last column says what to type."
    else:
        closing = "All is well."
    return f"{columns(checks, header=('check', 'status', 'found', 'what to type'))}\n\n{closing}"


def check_python(version: tuple[int, int] = sys.version_info[:2]) -> Iterator[Check]:
    """The interpreter is one that the pinned packages support."""
    found = f"{sys.version.split()[0]} at {sys.executable}"
    if OLDEST <= version <= NEWEST:
        yield Check("python", "ok", found)
        return
    found += f"; made for {'.'.join(map(str, OLDEST))} to {'.'.join(map(str, NEWEST))}"
    fix = "install another Python, and ditlens in a new environment: /path/to/python -m venv .venv"
    yield Check("python", "fail" if version < OLDEST else "warn", found, fix)


def check_packages(constraints: Path | None = CONSTRAINTS if CLONE else None) -> Iterator[Check]:
    """Each package that ditlens asks for is there, in its pinned version or at least an allowed one.

    Args:
        constraints: File of the pinned versions, if there is one.
    """
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    pinned = pins(constraints.read_text("utf-8")) if constraints is not None and constraints.is_file() else {}
    for line in metadata.requires("ditlens") or []:
        wanted = Requirement(line)
        extra = next(
            (
                name
                for name in EXTRAS
                if (CLONE or name != "dev") and wanted.marker and wanted.marker.evaluate({"extra": name})
            ),
            None,
        )
        if wanted.marker is None or extra:
            pin = pinned.get(canonicalize_name(wanted.name))
            yield check_package(wanted.name, str(wanted.specifier), pin, extra)


def check_package(name: str, allowed: str, pin: str | None, extra: str | None) -> Check:
    """Import one package, and compare it with its pin, or with the range that is allowed where it has no pin.

    The tools of development (extra ``dev``) are not imported.

    Args:
        name: The package.
        allowed: What `pyproject.toml` allows, e.g. ``">=2.6"``.
        pin: The exact version that ditlens is tested with, if known.
        extra: The extra that brings the package; None if ditlens cannot do without it.
    """
    from packaging.specifiers import SpecifierSet

    install = pip(f'"{name}=={pin}"' if pin else f'"{name}{allowed}"')
    try:
        installed = metadata.version(name)
    except metadata.PackageNotFoundError:
        if extra is None:
            return Check(name, "fail", "not installed", install)
        return Check(name, "warn", f"not installed (extra {extra})", install)
    if not SpecifierSet(allowed).contains(installed, prereleases=True):
        return Check(name, "warn" if extra else "fail", f"{installed}, needs {allowed}", install)
    flaw = "" if extra == "dev" else why_not_imported(IMPORTED_AS.get(name, name.replace("-", "_")))
    if flaw:
        again = install.replace("pip install", "pip install --force-reinstall")
        return Check(name, "warn" if extra else "fail", f"{installed}, cannot be imported: {flaw}", again)
    if pin and not SpecifierSet(f"=={pin}").contains(installed, prereleases=True):
        return Check(name, "warn", f"{installed}, tested with {pin}", install)
    return Check(name, "ok", installed)


def why_not_imported(module: str) -> str:
    """Why a module cannot be imported; empty if it can."""
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            import_module(module)
    except Exception as error:  # a broken package can raise anything
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
    return ""


def pip(words: str) -> str:
    """The line to type that installs something for the Python that runs now."""
    return f"{sys.executable} -m pip install {words}"


def reinstall() -> str:
    """The line to type that installs ditlens and its packages again."""
    if CLONE:
        return pip(f'--force-reinstall -c "{CONSTRAINTS}" -e "{ROOT}[all]"')
    return pip("--force-reinstall WHEEL, where WHEEL is the file or address that ditlens was installed from")


def pins(constraints: str) -> dict[str, str]:
    """Read the versions that a constraints file gives to this Python: ``{canonical name: version}``."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    lines = (line.partition("#")[0].strip() for line in constraints.splitlines())
    wanted = [Requirement(line) for line in lines if line]
    return {
        canonicalize_name(pin.name): str(pin.specifier).removeprefix("==")
        for pin in wanted
        if pin.marker is None or pin.marker.evaluate()
    }


def check_devices() -> Iterator[Check]:
    """What torch can compute on; the CPU always, and faster ones if torch sees them."""
    import torch

    yield Check("cpu", "ok", f"{torch.get_num_threads()} of {counted(os.cpu_count() or 1, 'thread')}")
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            device = torch.cuda.get_device_properties(index)
            yield Check(f"cuda:{index}", "ok", f"{device.name}, {device.total_memory / GB:.0f} GB")
    elif torch.backends.mps.is_available():
        yield Check("mps", "ok", "Apple GPU")
    else:
        yield Check("gpu", "ok", "none; the portraits model does not need one")


def check_memory() -> Iterator[Check]:
    """There is room to run the portraits model."""
    import psutil

    memory = psutil.virtual_memory()
    found = f"{memory.available / GB:.1f} GB free of {memory.total / GB:.1f} GB"
    yield enough("memory", memory.available, found, "close other programs; shut down idle notebook kernels")


def check_disk() -> Iterator[Check]:
    """There is room to write images and hidden states where the user works."""
    free = shutil.disk_usage(Path.cwd()).free
    found = f"{free / GB:.1f} GB free at {Path.cwd()}"
    yield enough("disk", free, found, "delete what you no longer need in the folder outputs")


def enough(name: str, free: int, found: str, fix: str) -> Check:
    """Compare free bytes with `NEEDED`."""
    return Check(name, "ok", found) if free >= NEEDED else Check(name, "warn", found, fix)


def check_model(folder: Path = DATA / "models" / "portraits") -> Iterator[Check]:
    """The shipped model is there, and every file is the one that was published."""
    restore = reinstall()
    if CLONE and folder.is_relative_to(ROOT):
        restore = f'git -C "{ROOT}" checkout -- {folder.relative_to(ROOT).as_posix()}'
    listing = folder / "checksums.json"
    if not folder.is_dir():
        yield Check("model", "fail", f"no folder {folder}", restore)
        return
    if not listing.is_file():
        yield Check("model", "warn", f"no {listing.name} in {folder}", restore)
        return
    expected: dict[str, str] = json.loads(listing.read_text("utf-8"))
    missing = [name for name in expected if not (folder / name).is_file()]
    altered = [name for name in expected if name not in missing and checksum(folder / name) != expected[name]]
    wrong = {"missing": missing, "altered": altered}
    if found := "; ".join(f"{kind}: {', '.join(names)}" for kind, names in wrong.items() if names):
        yield Check("model", "fail", found, restore)
    else:
        yield Check("model", "ok", f"{len(expected)} files as published in {folder}")


def check_front_end() -> Iterator[Check]:
    """Where ditlens runs; whether the notebook's packages are there is among the packages."""
    yield Check("front end", "ok", front_end(os.environ, sys.modules))


def front_end(environment: Mapping[str, str], loaded: Collection[str]) -> str:
    """Name the program around this process, from its environment and the modules that are loaded."""
    signs: tuple[tuple[str, Callable[[], bool]], ...] = (
        ("Colab", lambda: "google.colab" in loaded or "COLAB_RELEASE_TAG" in environment),
        ("VS Code", lambda: "VSCODE_PID" in environment or environment.get("TERM_PROGRAM") == "vscode"),
        ("Jupyter", lambda: "ipykernel" in loaded or "JPY_PARENT_PID" in environment),
    )
    return next((name for name, seen in signs if seen()), "terminal")


CHECKS: tuple[Callable[[], Iterator[Check]], ...] = (
    check_python,
    check_packages,
    check_devices,
    check_memory,
    check_disk,
    check_model,
    check_front_end,
)
