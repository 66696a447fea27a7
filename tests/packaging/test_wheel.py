"""The wheel holds all that ditlens needs, and works away from the repository, offline and read-only."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = """
pyproject.toml setup.py README.md LICENSE LICENSE-docs ditlens data notebooks playground docs/reference
""".split()
LARGEST = 48 * 2**20
OFFLINE = """
import socket

def refuse(self, address, *rest):
    raise OSError(f"this test runs without network: {address}")

socket.socket.connect = socket.socket.connect_ex = refuse
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from a copy so that leftovers of other builds stay out of it."""
    source = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        else:
            shutil.copy(ROOT / name, source / name)
    run([*PIP, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", "out", "."], source)
    (built,) = (source / "out").iterdir()
    return built


PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")


def run(command: Sequence[str | Path], folder: Path, environment: dict[str, str] | None = None) -> str:
    """Run a command in a folder; what it printed."""
    clean = {name: value for name, value in (environment or os.environ).items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=folder, env=clean, capture_output=True, text=True, encoding="utf-8", timeout=300
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def files(folder: Path, ignored: tuple[str, ...] = ("__pycache__",)) -> dict[str, int]:
    """The files below a folder, with the times at which they were written."""
    return {
        path.relative_to(folder).as_posix(): path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file() and not any(part in ignored or part.startswith(".") for part in path.parts[1:])
    }


def test_holds_every_file_of_the_package_and_of_the_data(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    expected = {f"ditlens/{name}" for name in files(ROOT / "ditlens")}
    expected |= {f"ditlens/data/{name}" for name in files(ROOT / "data")}
    expected |= {f"ditlens/data/notebooks/{name}" for name in [*files(ROOT / "notebooks"), "glossary.md"]}
    expected -= {"ditlens/data/notebooks/README.md"}  # a page of the site
    page = files(ROOT / "playground")
    expected |= {f"ditlens/data/playground/{name}" for name in page if not name.endswith((".py", ".npmrc"))}
    assert {name for name in names if ".dist-info/" not in name} == expected
    assert {
        "ditlens/data/examples/portrait.png",
        "ditlens/data/models/portraits/model_index.json",
    } <= expected
    assert wheel.stat().st_size < LARGEST


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory) -> Path:
    """A fresh environment with the wheel, read-only and offline, that sees the packages of this one.

    The path of this one is added by a ``.pth`` file: what is installed there editable is not found by it.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=os.name != "nt")
    scheme = "nt" if os.name == "nt" else "posix_prefix"
    packages, scripts = (
        Path(sysconfig.get_path(kind, scheme, {"base": str(folder)})) for kind in ("purelib", "scripts")
    )
    python = scripts / "python"
    run([*PIP, "--python", python, "install", "--no-deps", "--no-index", wheel], folder)
    here = {sysconfig.get_path(kind) for kind in ("purelib", "platlib")}
    (packages / "here.pth").write_text("\n".join(here), "utf-8")
    (packages / "sitecustomize.py").write_text(OFFLINE, "utf-8")
    everything = [packages, *packages.rglob("*")]
    for path in everything:
        path.chmod(path.stat().st_mode & ~0o222)
    yield python
    for path in everything:
        path.chmod(path.stat().st_mode | 0o200)


@pytest.fixture
def installed(environment, tmp_path):
    """Runs a command of the fresh environment in an empty folder, with an empty home."""
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    kept = {
        k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "HF_", "TRANSFORMERS_", "XDG_"))
    }
    kept |= dict.fromkeys(("HOME", "USERPROFILE", "LOCALAPPDATA"), str(tmp_path / "home"))

    def run_installed(*command: str) -> str:
        return run([environment.with_name(command[0]), *command[1:]], tmp_path / "work", kept)

    return run_installed


@pytest.mark.slow
def test_works_in_a_fresh_environment(installed, environment, tmp_path):
    packages = Path(installed("python", "-c", "import ditlens; print(ditlens.__file__)").strip()).parents[1]
    assert packages.is_relative_to(environment.parents[1])
    before = files(packages)

    assert "ditlens edit" in installed("python", "-m", "ditlens", "--help")
    assert "works" in installed("python", "-c", "import ditlens as dl; dl.load('portraits'); print('works')")
    report = installed("ditlens", "doctor")
    assert "files as published" in report and "fail  " not in report
    shown = installed("ditlens", "demo")
    assert "drift" in shown
    assert (tmp_path / "work" / "outputs" / "demo" / "sweep.png").is_file()
    for edition in ("student", "solution"):
        installed("ditlens", "course", edition, "--edition", edition)
        assert len(list((tmp_path / "work" / edition).glob("*.ipynb"))) == 13
    assert files(packages) == before, "nothing is written beside the package"
