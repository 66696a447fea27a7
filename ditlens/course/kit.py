"""All that a room without network needs, in one folder: packages for its systems, the notebooks, an installer.

pip can download wheels for other systems, but decides by its own which packages those need; so uv resolves, and pip
downloads what uv names.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ditlens.course.hand_out import hand_out
from ditlens.errors import MissingDependencyError, SettingError
from ditlens.files import PACKAGE, write_whole
from ditlens.tables import remark

CLONE = PACKAGE.parent
CONSTRAINTS = CLONE / "constraints.txt"
EXTRAS = "views,analysis"
PACKAGES = "packages"
"""The folder of a kit that is filled first; a kit that was interrupted has nothing else, and is continued."""
UV = {
    "windows": "x86_64-pc-windows-msvc",
    "macos": "aarch64-apple-darwin",
    "linux": "x86_64-manylinux_2_28",
}
"""What uv calls each system: 64-bit Windows, macOS on Apple silicon, Linux on x86-64."""
PIP = {
    "windows": ("win_amd64",),
    "macos": ("macosx_14_0_arm64", "macosx_11_0_arm64", "macosx_11_0_universal2", "macosx_10_9_universal2"),
    "linux": (
        "manylinux_2_28_x86_64",
        "manylinux_2_27_x86_64",
        "manylinux_2_17_x86_64",
        "manylinux2014_x86_64",
    ),
}
"""Which wheels pip may take for each."""
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")

UNIX = """\
#!/bin/sh
# Installs ditlens from this folder into ~/ditlens, without network, and starts JupyterLab.
set -e
cd "$(dirname "$0")"
python=${PYTHON:-python3}
[ -x "$HOME/ditlens/bin/python" ] || "$python" -m venv "$HOME/ditlens"
"$HOME/ditlens/bin/python" -m pip install --no-index --find-links packages "ditlens[EXTRAS]"
[ -d "$HOME/ditlens/notebooks" ] || cp -R notebooks "$HOME/ditlens/notebooks"
"$HOME/ditlens/bin/python" -m ditlens preflight
echo "To start: $HOME/ditlens/bin/python -m jupyterlab $HOME/ditlens/notebooks"
"""
WINDOWS = """\
@echo off
rem Installs ditlens from this folder into your user folder, without network.
cd /d "%~dp0"
if not exist "%USERPROFILE%\\ditlens\\Scripts\\python.exe" py -m venv "%USERPROFILE%\\ditlens" || exit /b 1
set PIP_NO_INDEX=1
"%USERPROFILE%\\ditlens\\Scripts\\python" -m pip install --find-links packages "ditlens[EXTRAS]" || exit /b 1
if not exist "%USERPROFILE%\\ditlens\\notebooks" xcopy /e /i /q notebooks "%USERPROFILE%\\ditlens\\notebooks"
"%USERPROFILE%\\ditlens\\Scripts\\python" -m ditlens preflight
echo To start: "%USERPROFILE%\\ditlens\\Scripts\\python" -m jupyterlab "%USERPROFILE%\\ditlens\\notebooks"
pause
"""
READ_ME = """\
ditlens for a room without network
==================================

Needed on each computer: Python {pythons}, 64 bit, from python.org or the system. Then, from this folder:

    Windows          double-click install.cmd
    macOS, Linux     sh install.sh

It installs into the folder "ditlens" of the user, checks the computer, and says how to start JupyterLab. Nothing is
downloaded. This kit holds packages for {systems}.

    packages     ditlens with its model, and everything that it needs
    notebooks    the course, for learners
    docs         the documentation, to be read in any editor or in JupyterLab

With another Python than `python3`: PYTHON=/path/to/python3.12 sh install.sh
"""


@dataclass(frozen=True)
class Kit:
    """A kit that was collected.

    Attributes:
        folder: Where it is.
        systems: For which systems and versions of Python.
        packages: How many packages.
        size: Bytes.
    """

    folder: Path
    systems: tuple[str, ...]
    packages: int
    size: int

    def __str__(self) -> str:
        return (
            f"wrote {self.folder}: {self.packages} packages for {', '.join(self.systems)}, the notebooks and the "
            f"docs; {self.size / 1e6:.0f} MB. Copy the folder to a USB stick; README.txt in it says how to install."
        )

    def facts(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        return {"folder": self.folder, "systems": self.systems, "packages": self.packages, "bytes": self.size}


def collect(
    folder: Path,
    platforms: Sequence[str] = ("windows", "macos", "linux"),
    pythons: Sequence[str] = ("3.12",),
    wheel: Path | None = None,
    index: str | None = None,
) -> Kit:
    """Write a kit; needs a network, once.

    Args:
        folder: Where to; new, empty, or a kit that was interrupted.
        platforms: Among ``windows``, ``macos`` and ``linux``.
        pythons: Versions of Python, ``"3.12"``.
        wheel: The wheel of ditlens; None builds it, in a clone.
        index: Another package index to look in, too, or a folder of wheels. For Linux without GPUs take
            PyTorch's for the CPU, https://download.pytorch.org/whl/cpu; its packages for GPUs have 2.7 GB.

    Raises:
        SettingError: If the folder is in use, a platform or version is not known, or packages cannot be had.
        MissingDependencyError: If uv is not installed.
        WriteError: If a file cannot be written.
    """
    wrong = [name for name in platforms if name not in UV] + [each for each in pythons if each not in PYTHONS]
    if wrong or not platforms or not pythons:
        raise SettingError(
            f"{', '.join(wrong) or 'Nothing'}: platforms are {', '.join(UV)}; Pythons {', '.join(PYTHONS)}."
        )
    there = (
        sorted(path.name for path in folder.iterdir())
        if folder.is_dir()
        else []
        if not folder.exists()
        else [""]
    )
    if there not in ([], [PACKAGES]):
        raise SettingError(f"{folder} is there, and is no kit that was interrupted. Choose a new folder.")
    if find_spec("uv") is None:
        raise MissingDependencyError(
            f"A kit for other systems needs uv to see what they need. Type: {sys.executable} -m pip install uv"
        )
    packages = folder / PACKAGES
    packages.mkdir(parents=True, exist_ok=True)
    own = build(packages) if wheel is None else copied(wheel, packages)
    kind = "--find-links" if index is not None and Path(index).is_dir() else "--extra-index-url"
    extra = [] if index is None else [kind, index]
    systems = [(name, python) for name in platforms for python in pythons]
    for name, python in systems:
        remark(f"packages for {name}, Python {python}")
        try:
            download(packages, own, name, python, extra)
        except SettingError as error:
            raise SettingError(
                f"The packages for {name}, Python {python}, could not be had. {error}"
            ) from error
    hand_out(folder / "notebooks")
    documents(folder)
    told = READ_ME.format(pythons=" or ".join(pythons), systems=", ".join(platforms))
    write_whole(folder / "README.txt", told)
    write_whole(folder / "install.sh", UNIX.replace("EXTRAS", EXTRAS))
    write_whole(folder / "install.cmd", WINDOWS.replace("EXTRAS", EXTRAS).replace("\n", "\r\n"))
    files = [path for path in folder.rglob("*") if path.is_file()]
    count = len(list(packages.iterdir()))
    named = tuple(f"{name} (Python {python})" for name, python in systems)
    return Kit(folder, named, count, sum(path.stat().st_size for path in files))


def build(packages: Path) -> Path:
    """Build the wheel of the clone that ditlens runs from.

    Raises:
        SettingError: If it runs from no clone.
    """
    if not (CLONE / "pyproject.toml").is_file():
        raise SettingError(
            "This ditlens is installed from a wheel: give the kit that file, --wheel ditlens-...whl."
        )
    options = "pip wheel -q --no-deps --no-build-isolation -w".split()
    run([sys.executable, "-m", *options, packages, CLONE])
    return next(packages.glob("ditlens-*.whl"))


def copied(wheel: Path, packages: Path) -> Path:
    """Put a wheel into the kit.

    Raises:
        SettingError: If it is no wheel of ditlens.
    """
    if not (wheel.is_file() and wheel.name.startswith("ditlens-") and wheel.suffix == ".whl"):
        raise SettingError(f"{wheel} is no wheel of ditlens; its name begins with ditlens- and ends in .whl.")
    write_whole(packages / wheel.name, wheel.read_bytes())
    return packages / wheel.name


def download(packages: Path, wheel: Path, system: str, python: str, extra: Sequence[str]) -> None:
    """Download what a system needs besides ditlens."""
    pinned = ["-c", str(CONSTRAINTS)] if CONSTRAINTS.is_file() else []
    with tempfile.TemporaryDirectory() as place:
        wanted, needed = Path(place, "wanted.in"), Path(place, "needed.txt")
        write_whole(wanted, f"ditlens[{EXTRAS}] @ {wheel.absolute().as_uri()}")
        settings = {"MACOSX_DEPLOYMENT_TARGET": "14.0"}
        asked = ["--python-platform", UV[system], "--python-version", python, "--no-emit-package", "ditlens"]
        resolve = [sys.executable, "-m", "uv", "pip", "compile", "-q", "--no-header", *asked, *pinned, *extra]
        run([*resolve, "-o", needed, wanted], settings)
        tags = [word for tag in PIP[system] for word in ("--platform", tag)]
        get = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"]
        run([*get, *tags, "--python-version", python, *extra, "-d", packages, "-r", needed])


def documents(folder: Path) -> None:
    """Copy the docs of a clone; a wheel has none."""
    docs = CLONE / "docs"
    if (docs / "README.md").is_file():
        for path in [CLONE / "README.md", *docs.rglob("*.*")]:
            if path.suffix in (".md", ".png", ".jpg", ".svg", ".html"):
                write_whole(folder / path.relative_to(CLONE), path.read_bytes())


def run(command: Sequence[str | Path], settings: dict[str, str] | None = None) -> None:
    """Run a command.

    Raises:
        SettingError: If it fails; the message has the end of what it said.
    """
    environment = os.environ | (settings or {})
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, env=environment)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        said = [line for line in lines if line.lower().startswith("error")] or lines
        raise SettingError(
            f"A network is needed now, and none later; the same command continues. {command[2]} said:\n"
            + "\n".join(said[-4:])
        )
