"""Every way to install ditlens goes through constraints.txt, and that list is complete."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import ditlens

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]
WANTED = [Requirement(line) for line in (*PROJECT["project"]["dependencies"], *sum(EXTRAS.values(), []))]
PINS = [
    Requirement(line)
    for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    if line and not line.startswith("#")
]
PYTHONS = ("3.10.13", "3.11.2", "3.11.7", "3.12.1", "3.13.0", "3.14.0")


def versions(name: str, python: str) -> list[str]:
    """The versions that constraints.txt gives to one Python; one, if all is right."""
    environment = {"python_version": ".".join(python.split(".")[:2]), "python_full_version": python}
    return [
        str(pin.specifier).removeprefix("==")
        for pin in PINS
        if canonicalize_name(pin.name) == canonicalize_name(name)
        and (pin.marker is None or pin.marker.evaluate(environment))
    ]


def test_every_pin_is_exact():
    for pin in PINS:
        assert re.fullmatch(r"==[0-9][0-9a-z.]*", str(pin.specifier)), pin


@pytest.mark.parametrize("python", PYTHONS)
def test_every_package_has_one_version(python):
    names = {canonicalize_name(pin.name) for pin in PINS}
    assert {name: versions(name, python) for name in names if len(versions(name, python)) != 1} == {}


@pytest.mark.parametrize("wanted", [w for w in WANTED if w.name != "ditlens"], ids=lambda wanted: wanted.name)
def test_every_dependency_has_a_pin_that_it_allows(wanted):
    for python in PYTHONS:
        (version,) = versions(wanted.name, python)
        assert wanted.specifier.contains(version), f"{version} on Python {python} is not {wanted.specifier}"


def test_the_limits_that_are_known():
    assert {version for python in PYTHONS for version in versions("torch", python)} == {"2.13.0"}
    for python in PYTHONS:
        (numpy,) = versions("numpy", python)
        assert tuple(map(int, numpy.split("."))) < (2, 5), "numba supports no newer numpy"


def test_the_build_uses_the_pinned_setuptools():
    (wanted,) = map(Requirement, PROJECT["build-system"]["requires"])
    assert [str(wanted.specifier).removeprefix("==")] == versions(wanted.name, PYTHONS[-1])


def test_all_means_all_extras_but_the_large_ones():
    (everything,) = map(Requirement, EXTRAS["all"])
    assert everything.extras == set(EXTRAS) - {"all", "app", "browser", "cluster", "docs", "export", "fast"}


def test_make_and_conda_read_the_constraints():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    installs = [line for line in makefile.splitlines() if "pip install" in line]
    assert installs and all("-c constraints.txt -e '.[$(EXTRAS)]'" in line for line in installs)
    assert re.search(r"^EXTRAS \?= all$", makefile, re.MULTILINE)
    assert re.search(r"^\$\(INSTALLED\): pyproject\.toml constraints\.txt$", makefile, re.MULTILINE)

    conda = (ROOT / "environment.yml").read_text("utf-8")
    listed = re.findall(r"^ *- (.+)$", conda, re.MULTILINE)
    assert listed == ["conda-forge", "python=3.11", "pip", "pip:", "-c constraints.txt", "-e .[all]"]


@pytest.mark.parametrize(
    "name", ["constraints.txt", "environment.yml", "pyproject.toml", "Makefile", ".ci/run"]
)
def test_no_package_index_is_named(name):
    text = (ROOT / name).read_text("utf-8")
    assert not re.search(r"index-url|find-links|https?://", text)


@pytest.mark.parametrize("name", ["README.md", "docs/how-to/install.md", ".binder/requirements.txt"])
def test_the_cpu_build_is_the_pinned_torch(name):
    text = (ROOT / name).read_text("utf-8")
    assert re.findall(r"torch==([0-9.]+)", text) == versions("torch", PYTHONS[-1])
    assert "https://download.pytorch.org/whl/cpu" in text


def test_one_version_everywhere():
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    assert f"\nversion: {ditlens.__version__}\n" in citation
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "ditlens.version.__version__"}
