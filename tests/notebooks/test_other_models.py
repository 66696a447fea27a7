"""The notebooks run on other models than portraits: what needs its oracle is skipped and says so, the rest runs.

The models are tiny and untrained, of the classes of SD3 and FLUX; what they draw means nothing.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

import ditlens as dl
from ditlens.course import editions
from ditlens.course.desk import MARKS
from ditlens.course.lessons import LESSONS

pytestmark = [pytest.mark.notebook, pytest.mark.slow]


def module_at(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


HERE = Path(__file__).parent
execute = module_at(HERE / "execute.py")
SMALL = """
from diffusers import FluxPipeline
FluxPipeline.default_sample_size = property(lambda _: 4, lambda _, size: None)
"""
"""FLUX's pipeline makes pictures of 1024 pixels, whatever its transformer; in these kernels of 32."""


@pytest.fixture(scope="session", params=["sd3", "flux"])
def settings(request, tmp_path_factory) -> dict[str, str]:
    """Environment variables with which the notebooks use a tiny model."""
    folder, ipython = tmp_path_factory.mktemp(request.param), tmp_path_factory.mktemp("ipython")
    if request.param == "sd3":
        parts = dict(dl.load("portraits", device="cpu").pipe.components)
        config = parts["transformer"].config | {"num_layers": 2, "dual_attention_layers": ()}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            parts["transformer"] = type(parts["transformer"])(**config)
        from diffusers import StableDiffusion3Pipeline

        StableDiffusion3Pipeline(**parts).save_pretrained(folder)
    else:
        module_at(HERE.parent / "integration" / "test_flux.py").pipeline(True).save_pretrained(folder)
        startup = ipython / "profile_default" / "startup"
        startup.mkdir(parents=True)
        (startup / "small.py").write_text(SMALL)
    (folder / "ditlens.json").write_text('{"steps": 4}')
    return {"DITLENS_MODEL": str(folder), "IPYTHONDIR": str(ipython)}


@pytest.mark.parametrize("edition", ["student", "solution"])
@pytest.mark.parametrize("number", LESSONS)
def test_runs_on_a_model_without_a_world(number, edition, settings, tmp_path):
    nb = execute.execute(getattr(editions, edition)(number), tmp_path, **settings)
    outputs = [output for cell in nb.cells for output in cell.get("outputs", [])]
    said = [output.text for output in outputs if output.get("name") == "stdout"]
    marks = [mark for mark, need in MARKS.items() if need == "world" or "flux" in settings["DITLENS_MODEL"]]
    marked = [cell for cell in nb.cells if cell.source.startswith(tuple(marks))]
    assert sum(text.startswith("Skipped with the model") for text in said) == len(marked)
    if edition == "solution":
        assert "✗ not yet" not in execute.verdicts(nb).values()
