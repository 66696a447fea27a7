"""All that a room without network needs, in one folder: packages for its systems, the notebooks, an installer.

pip can download wheels for other systems, but decides by its own which packages those need; so uv resolves, and pip
downloads what uv names.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import zipfile
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
# Installs ditlens from this folder into ~/ditlens, without network: env/ with the packages, notebooks/ to work in.
cd "$(dirname "$0")" || exit 1
versions="VERSIONS"
suits() {
    found=$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || return 1
    case " $versions " in *" $found "*) return 0 ;; esac
    return 1
}
python=
for each in "$PYTHON" python3 NAMES; do
    if [ -z "$python" ] && [ -n "$each" ] && suits "$each"; then python=$each; fi
done
if [ -z "$python" ]; then
    echo "This kit is for Python VERSIONS; here is $(python3 --version 2>&1)." >&2
    echo "Install one of them from python.org, or name yours: PYTHON=/path/to/python3 sh install.sh" >&2
    exit 1
fi
home=$HOME/ditlens
suits "$home/env/bin/python" || "$python" -m venv --clear "$home/env" || exit 1
"$home/env/bin/python" -m pip install -q --no-index --find-links packages "ditlens[EXTRAS]" || exit 1
[ -d "$home/notebooks" ] || cp -R notebooks "$home/notebooks"
"$home/env/bin/python" -m ditlens preflight
echo "To start: $home/env/bin/python -m jupyterlab $home/notebooks"
"""
WINDOWS = r"""@echo off
rem Installs ditlens from this folder into your user folder, without network: env with the packages, notebooks.
cd /d "%~dp0"
set VERSIONS=VERSIONS
set FOUND=
for %%v in (%VERSIONS%) do if not defined FOUND py -%%v -c "" >nul 2>nul && set FOUND=%%v
if not defined FOUND (
    echo This kit is for Python %VERSIONS%. Install one of them from python.org, with the launcher py.
    pause
    exit /b 1
)
set AT=%USERPROFILE%\ditlens
set PY="%AT%\env\Scripts\python"
%PY% -c "import sys; sys.exit('%%d.%%d' %% sys.version_info[:2] not in '%VERSIONS%'.split())" 2>nul
if errorlevel 1 py -%FOUND% -m venv --clear "%AT%\env" || exit /b 1
%PY% -m pip install -q --no-index --find-links packages "ditlens[EXTRAS]" || exit /b 1
if not exist "%AT%\notebooks" xcopy /e /i /q notebooks "%AT%\notebooks"
%PY% -m ditlens preflight
echo To start: %PY% -m jupyterlab "%AT%\notebooks"
pause
"""
READ_ME = """\
ditlens for a room without network
==================================

Needed on each computer: Python {pythons}, 64 bit, from python.org or the system. Then, from this folder:

{how}

It installs into the folder "ditlens" of the user, checks the computer, and says how to start JupyterLab. Nothing is
downloaded. This kit holds packages for {systems}, and for no other system.

    packages     ditlens with its model, and everything that it needs
    notebooks    the course, for learners
    docs         the documentation, to be read in any editor or in JupyterLab; README.md leads to it
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
    if wheel is not None:
        check_wheel(wheel)
    if index is not None and not (Path(index).is_dir() or re.match(r"https?://", index)):
        raise SettingError(f"{index} is no folder that is there, and no address that begins with https://.")
    remark("stopped or failed, the same command continues")
    packages = folder / PACKAGES
    packages.mkdir(parents=True, exist_ok=True)
    own = build(packages) if wheel is None else packages / wheel.name
    if wheel is not None:
        write_whole(own, wheel.read_bytes())
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
    install(folder, platforms, pythons)
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


def check_wheel(wheel: Path) -> None:
    """Look whether a file is a wheel of ditlens.

    Raises:
        SettingError: If it is not.
    """
    if not wheel.is_file():
        raise SettingError(f"There is no file {wheel}. Check its name, or the folder you are in.")
    if not (wheel.name.startswith("ditlens-") and wheel.suffix == ".whl"):
        raise SettingError(f"{wheel} is no wheel of ditlens; its name begins with ditlens- and ends in .whl.")
    if not zipfile.is_zipfile(wheel):
        raise SettingError(f"{wheel} is damaged: a wheel is a zip file, and this is none. Get it again.")


def install(folder: Path, platforms: Sequence[str], pythons: Sequence[str]) -> None:
    """Write the installers of the systems, and what to do with them."""
    how, versions = [], " ".join(pythons)
    if "windows" in platforms:
        how.append("    Windows          double-click install.cmd")
        text = WINDOWS.replace("=VERSIONS", f"={versions}").replace("EXTRAS", EXTRAS)
        write_whole(folder / "install.cmd", text.replace("\n", "\r\n"))
    if {"macos", "linux"} & set(platforms):
        how.append("    macOS, Linux     sh install.sh")
        names = " ".join(f"python{each}" for each in pythons)
        text = UNIX.replace("VERSIONS", versions).replace("NAMES", names).replace("EXTRAS", EXTRAS)
        write_whole(folder / "install.sh", text)
    told = {"pythons": " or ".join(pythons), "systems": ", ".join(platforms), "how": "\n".join(how)}
    write_whole(folder / "README.txt", READ_ME.format(**told))


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
    """Copy the docs of a clone, with what they link to; a wheel has none."""
    docs = CLONE / "docs"
    if (docs / "README.md").is_file():
        beside = [
            path for path in CLONE.glob("[A-Z]*") if path.suffix in (".md", ".cff", "") and path.is_file()
        ]
        for path in [*beside, *docs.rglob("*.*"), *(CLONE / "data").rglob("README.md")]:
            if path.suffix in (".md", ".png", ".jpg", ".svg", ".html", ".cff", ""):
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
