"""The doctor finds what is wrong and says what to type."""

from __future__ import annotations

import hashlib
import json
import re
from importlib import metadata

import pytest

from ditlens.cli import doctor
from ditlens.cli.doctor import Check


@pytest.mark.parametrize(
    ("version", "status"), [((3, 9), "fail"), ((3, 10), "ok"), ((3, 14), "ok"), ((3, 15), "warn")]
)
def test_python(version, status):
    (check,) = doctor.check_python(version)
    assert check.status == status
    assert bool(check.fix) == (status != "ok")


def test_pins_follow_the_markers():
    text = '# a comment\nA_b==1.0; python_version < "3.0"\nA_b==2.0; python_version >= "3.0"\n\nc==3 # why\n'
    assert doctor.pins(text) == {"a-b": "2.0", "c": "3"}


PACKAGING = metadata.version("packaging")


@pytest.mark.parametrize(
    ("name", "allowed", "pin", "extra", "status", "found"),
    [
        ("packaging", ">=1", PACKAGING, None, "ok", PACKAGING),
        ("packaging", ">=1", None, None, "ok", PACKAGING),
        ("packaging", ">=1", "1.0", None, "warn", f"{PACKAGING}, tested with 1.0"),
        ("packaging", ">=9999", None, None, "fail", f"{PACKAGING}, needs >=9999"),
        ("packaging", ">=9999", None, "dev", "warn", f"{PACKAGING}, needs >=9999"),
        ("no-such-package", ">=1", "1.0", None, "fail", "not installed"),
        ("no-such-package", ">=1", "1.0", "views", "warn", "not installed (extra views)"),
    ],
)
def test_package(name, allowed, pin, extra, status, found):
    check = doctor.check_package(name, allowed, pin, extra)
    assert (check.name, check.status, check.found) == (name, status, found)
    wanted = f'pip install "{name}=={pin}"' if pin else f'pip install "{name}{allowed}"'
    assert check.fix.endswith("" if status == "ok" else wanted)


def test_a_local_build_of_the_pinned_version_is_right(monkeypatch):
    monkeypatch.setattr(metadata, "version", lambda name: "2.13.0+cpu")
    assert doctor.check_package("torch", ">=2.6", "2.13.0", None) == Check("torch", "ok", "2.13.0+cpu")


def test_all_direct_dependencies_are_looked_at():
    names = [check.name for check in doctor.check_packages()]
    assert {"torch", "diffusers", "transformers", "umap-learn", "jupyterlab", "pytest"} <= set(names)
    assert len(names) == len(set(names)) and "ditlens" not in names


def test_without_constraints_the_package_metadata_counts(tmp_path):
    assert {check.status for check in doctor.check_packages(None)} == {"ok"}
    assert {check.status for check in doctor.check_packages(tmp_path / "none.txt")} == {"ok"}


@pytest.fixture
def model(tmp_path):
    """A model folder of two small files and their checksums."""
    contents = {"model_index.json": b"{}", "vae/model.safetensors": bytes(1000)}
    for name, content in contents.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    (tmp_path / "checksums.json").write_text(json.dumps(sums))
    return tmp_path


def test_model_as_published(model):
    (check,) = doctor.check_model(model)
    assert check == Check("model", "ok", f"2 files as published in {model}")


def test_model_with_damage(model):
    (model / "vae/model.safetensors").write_bytes(bytes(999))
    (model / "model_index.json").unlink()
    (check,) = doctor.check_model(model)
    assert (check.status, check.found) == (
        "fail",
        "missing: model_index.json; altered: vae/model.safetensors",
    )
    assert check.fix == doctor.reinstall(), "it is not the repository's"


def test_model_without_checksums(model):
    (model / "checksums.json").unlink()
    (check,) = doctor.check_model(model)
    assert (check.status, check.found) == ("warn", f"no checksums.json in {model}")


def test_no_model(tmp_path):
    (check,) = doctor.check_model(tmp_path / "gone")
    assert (check.status, check.found) == ("fail", f"no folder {tmp_path / 'gone'}")


def advice(monkeypatch, clone, root):
    """Everything that the doctor tells to type when all is wrong."""
    monkeypatch.setattr(doctor, "ROOT", root)
    monkeypatch.setattr(doctor, "CLONE", clone)
    monkeypatch.setattr(doctor, "NEEDED", 2**80)

    def check_luck():
        raise OSError("libluck.so not found")

    looks = (lambda: doctor.check_python((3, 9)), check_luck, doctor.check_memory, doctor.check_disk,
             lambda: doctor.check_model(root / "data" / "models" / "gone"))  # fmt: skip
    monkeypatch.setattr(doctor, "CHECKS", looks)
    return {check.name: check.fix for check in doctor.examine()}


def test_advice_in_a_clone(monkeypatch, tmp_path):
    fixes = advice(monkeypatch, True, tmp_path)
    assert fixes["model"] == f'git -C "{tmp_path}" checkout -- data/models/gone'
    assert fixes["luck"].endswith(f'-e "{tmp_path}[all]"')


def test_advice_for_an_installed_wheel_needs_no_clone(monkeypatch, tmp_path):
    fixes = advice(monkeypatch, False, tmp_path)
    assert all(fixes.values()) and set(fixes) == {"python", "luck", "memory", "disk", "model"}
    assert not [fix for fix in fixes.values() if re.search(r"\bgit\b|\bmake\b|constraints|-e ", fix)]
    assert fixes["model"] == fixes["luck"]
    assert "pip install --force-reinstall WHEEL" in fixes["model"]


@pytest.mark.parametrize(
    ("environment", "loaded", "name"),
    [
        ({}, (), "terminal"),
        ({"TERM_PROGRAM": "Apple_Terminal"}, (), "terminal"),
        ({}, ("ipykernel",), "Jupyter"),
        ({"JPY_PARENT_PID": "1"}, (), "Jupyter"),
        ({"TERM_PROGRAM": "vscode"}, (), "VS Code"),
        ({"VSCODE_PID": "1"}, ("ipykernel",), "VS Code"),
        ({"COLAB_RELEASE_TAG": "x"}, ("ipykernel",), "Colab"),
        ({}, ("ipykernel", "google.colab"), "Colab"),
    ],
)
def test_front_end(environment, loaded, name):
    assert doctor.front_end(environment, loaded) == name


def test_a_check_that_breaks_is_a_failed_check(monkeypatch):
    def check_luck():
        raise OSError("libluck.so not found")

    monkeypatch.setattr(doctor, "CHECKS", (check_luck, doctor.check_disk))
    broken, disk = doctor.examine()
    assert (broken.name, broken.status, broken.found) == ("luck", "fail", "OSError: libluck.so not found")
    assert "--force-reinstall" in broken.fix
    assert disk.name == "disk"


@pytest.mark.parametrize("name", ["memory", "disk"])
def test_too_little_room_is_a_warning(name, monkeypatch):
    monkeypatch.setattr(doctor, "NEEDED", 2**80)
    (check,) = getattr(doctor, f"check_{name}")()
    assert check.status == "warn" and check.fix


def test_report():
    assert doctor.report([Check("python", "ok", "3.11")]).endswith("\n\nAll is well.")
    text = doctor.report([Check("a", "fail", "broken", "mend it"), Check("bb", "warn", "odd")])
    assert text.splitlines() == [
        "check  status  found   what to type",
        "-----  ------  ------  ------------",
        "a      fail    broken  mend it",
        "bb     warn    odd",
        "",
        "1 failed, 1 to look at: the last column says what to type.",
    ]


def test_the_shipped_model_is_as_published_and_as_a_training_would_write_it():
    from ditlens.models.find import MODELS
    from ditlens.train.run import SETTINGS

    folder = MODELS / "portraits"
    listed = json.loads((folder / "checksums.json").read_text())
    settings = (folder / "ditlens.json").read_bytes()
    assert listed["ditlens.json"] == hashlib.sha256(settings).hexdigest(), (
        "run ditlens.train.run.write_checksums"
    )
    assert json.loads(settings) == SETTINGS
    (check,) = doctor.check_model()
    assert check.status == "ok", check


@pytest.mark.parametrize(("extra", "status"), [(None, "fail"), ("views", "warn")])
def test_a_package_that_cannot_be_imported(monkeypatch, extra, status):
    def broken(module):
        raise OSError(f"lib{module}.so: cannot open shared object file\nmore")

    monkeypatch.setattr(doctor, "import_module", broken)
    check = doctor.check_package("packaging", ">=1", PACKAGING, extra)
    said = "cannot be imported: OSError: libpackaging.so: cannot open shared object file"
    assert (check.status, check.found) == (status, f"{PACKAGING}, {said}")
    assert check.fix.endswith(f'pip install --force-reinstall "packaging=={PACKAGING}"')
    assert doctor.check_package("packaging", ">=1", PACKAGING, "dev").status == "ok", "tools are not imported"


def test_every_package_is_imported_by_a_name_that_exists():
    for check in doctor.check_packages():
        assert "cannot be imported" not in check.found, check


def test_tools_of_development_matter_in_a_clone_only(monkeypatch):
    monkeypatch.setattr(doctor, "CLONE", False)
    names = {check.name for check in doctor.check_packages()}
    assert "pytest" not in names and {"torch", "matplotlib", "scikit-learn"} <= names
