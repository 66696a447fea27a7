"""Run a study: capture every prompt with every seed, to disk, by one worker or many.

Every worker walks through the same list and skips what is there or claimed by another. So a killed run goes on by
being started again, and workers may come and go. No messages are exchanged: the folder is all that they share.
``torchrun``, ``accelerate launch``, ``srun`` and SLURM arrays all start it; RANK, WORLD_SIZE and LOCAL_RANK say
where to begin and which GPU to take.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ditlens import errors, flow
from ditlens.errors import (
    ArchitectureError,
    BudgetError,
    DitlensError,
    MissingDependencyError,
    ModelError,
    SettingError,
    SiteError,
    StudyError,
)
from ditlens.files import remove_leftovers, write_whole
from ditlens.lens import estimates
from ditlens.lens.captures import capture
from ditlens.lens.estimates import Estimate
from ditlens.lens.selection import size_of
from ditlens.lens.study.claims import claim
from ditlens.lens.study.shards import item_name, write_item
from ditlens.lens.study.store import Manifest, Study
from ditlens.models.identity import fingerprint
from ditlens.models.model import Model
from ditlens.tables import human

ATTEMPTS = 3
"""How often an item that crashes is tried in one run; an error that ditlens raises on purpose would come again."""
WRONG = (SettingError, SiteError, BudgetError, ArchitectureError, ModelError, MissingDependencyError)
"""Errors that are no fault of an item: they end the study."""
REFUSALS = "DITLENS_REFUSALS"
"""Environment variable with the folder in which workers leave the error that ended them, for their launcher."""
FORMATS = ("float16", "bfloat16", "float32")
"""Number formats to keep."""


@dataclass(frozen=True)
class Worker:
    """Which of several workers this process is."""

    rank: int = 0
    world: int = 1
    local: int = 0

    @classmethod
    def here(cls) -> Worker:
        """As the launcher says it in the environment."""
        rank = int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", 0)))
        world = int(os.environ.get("WORLD_SIZE", os.environ.get("SLURM_NTASKS", 1)))
        local = int(os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", 0)))
        return cls(rank, max(world, 1), local)

    def device(self, asked: str) -> str:
        """The device of this worker: its own GPU where there are several, unless one is named (``cuda:1``)."""
        if asked in ("auto", "cuda") and torch.cuda.is_available():
            return f"cuda:{self.local % torch.cuda.device_count()}"
        return asked


def plan(
    model: Model,
    prompts: Sequence[str],
    seeds: Sequence[int],
    sites: str | Iterable[str],
    *,
    steps: Sequence[int] | None = None,
    passes: Sequence[str] = ("cond",),
    reduce: str | None = None,
    dtype: str | None = None,
    sampling_steps: int | None = None,
    guidance: float | None = None,
) -> Manifest:
    """Describe a study.

    Args:
        model: The model.
        prompts: The texts.
        seeds: Seeds for each of them.
        sites: Patterns as in `ditlens.capture`.
        steps: Steps to keep; None for all.
        passes: Guidance passes to keep.
        reduce: ``"mean"``, ``"sketch:64"`` or None.
        dtype: One of `FORMATS`, or None for the model's own.
        sampling_steps: Sampling steps; the model's own number by default.
        guidance: Guidance; the model's own by default.

    Raises:
        SettingError: If there are no prompts or seeds, or a setting keeps nothing.
    """
    if not prompts or not seeds or len(set(seeds)) < len(seeds):
        raise SettingError("A study needs at least one prompt and one seed, and every seed once.")
    if dtype not in (None, *FORMATS):
        raise SettingError(f"dtype={dtype!r}: choose {', '.join(FORMATS)}.")
    settings: dict[str, Any] = {
        "sites": [sites] if isinstance(sites, str) else list(sites),
        "steps": None if steps is None else list(steps),
        "passes": list(passes), "reduce": reduce, "dtype": dtype,
        "sampling_steps": sampling_steps or model.defaults["steps"],
        "guidance": model.defaults["guidance"] if guidance is None else guidance,
    }  # fmt: skip
    check_steps(settings["steps"], settings["sampling_steps"])
    check_passes(settings["passes"], settings["guidance"], model.distilled)
    return Manifest(model.name, fingerprint(model), tuple(prompts), tuple(seeds), settings)


def check_steps(steps: Sequence[int] | None, sampling_steps: int) -> None:
    """Compare the steps to keep with those that there will be.

    Raises:
        SettingError: If one of them will not come.
    """
    if steps is None:
        return
    wrong = [step for step in steps if not 0 <= step < sampling_steps]
    if wrong or not steps:
        raise SettingError(
            f"steps={list(steps)}: the sampling has {sampling_steps} steps, 0 to {sampling_steps - 1}"
            f"{f', and no {wrong}' if wrong else ''}. Choose among them, or sample with more steps."
        )


def check_passes(passes: Sequence[str], guidance: float, distilled: bool = False) -> None:
    """Compare the guidance passes to keep with those that there will be.

    Args:
        passes: The passes to keep.
        guidance: Guidance of the sampling.
        distilled: Whether the model takes its guidance as a number, `Model.distilled`.

    Raises:
        SettingError: If one of them is unknown, or will not come.
    """
    if not passes or not set(passes) <= {"cond", "uncond"}:
        raise SettingError(f"passes={list(passes)}: choose 'cond', 'uncond' or both.")
    if "uncond" in passes and distilled:
        raise SettingError(
            "This model is guidance-distilled: it takes its guidance as a number and makes no pass 'uncond'. Keep "
            "'cond' (--passes cond); for the other, make a study of the empty prompt."
        )
    if "uncond" in passes and guidance == 1:
        raise SettingError(
            "With guidance 1 there is no pass 'uncond'. Keep 'cond', or choose another guidance."
        )
    if "cond" in passes and guidance == 0 and not distilled:
        raise SettingError(
            "With guidance 0 there is no pass 'cond'. Keep 'uncond', or choose another guidance."
        )


def capturing(model: Model, manifest: Manifest, limit: str | float) -> capture:
    """The capture of an item, before it begins; raises what is wrong with the settings."""
    s = manifest.settings
    return capture(model, s["sites"], steps=s["steps"], limit=limit, **_kept(s))


def capture_item(model: Model, manifest: Manifest, prompt: int, seed: int, limit: str | float) -> Any:
    """The cache of one item."""
    with capturing(model, manifest, limit) as cache:
        sample_item(model, manifest, prompt, seed, manifest.settings["sampling_steps"])
    return cache


def make_item(
    model: Model, manifest: Manifest, folder: Path, item: tuple[int, int], limit: str | float
) -> None:
    """Capture an item and write it. The cache is free on return, before that of the next item fills."""
    write_item(folder, *item, capture_item(model, manifest, *item, limit), manifest.key)


def sample_item(model: Model, manifest: Manifest, prompt: int, seed: int, steps: int) -> None:
    """Make the picture of one item."""
    guidance = manifest.settings["guidance"]
    flow.sample(
        model, model.noise([seed]), model.sigmas(steps), model.encode_text([manifest.prompts[prompt]]),
        null_text=model.encode_text("").named("uncond") if guidance != 1 else None, guidance=guidance,
    )  # fmt: skip


def _kept(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What capturing and estimating have in common."""
    dtype = settings["dtype"]
    return {"passes": settings["passes"], "reduce": settings["reduce"],
            "dtype": getattr(torch, dtype) if dtype else None}  # fmt: skip


def estimate(model: Model, manifest: Manifest) -> Estimate:
    """What a study will take, measured on its first item with one sampling step; see `ditlens.estimate`."""
    s = manifest.settings
    return estimates.estimate(
        model, s["sites"], steps=s["steps"], sampling_steps=s["sampling_steps"], items=len(manifest.items),
        run=lambda: sample_item(model, manifest, 0, manifest.seeds[0], 1), **_kept(s),
    )  # fmt: skip


def over_limit(size: Estimate, limit: str | float, sampling_steps: int) -> str:
    """Why a study exceeds its memory, and the next smaller choice as an option of the command; empty if it fits.

    Args:
        size: What the study will take, from `estimate`.
        limit: Most memory for one item; a study holds one at a time.
        sampling_steps: Steps of sampling.
    """
    most = size_of(limit)
    if size.item <= most:
        return ""
    said = f"One picture takes {human(size.item)}, more than --limit {human(most)}. "
    each = {as_option(name, sampling_steps): total / size.items for name, total in size.smaller.items()}
    fitting = {option: bytes_ for option, bytes_ in each.items() if bytes_ <= most}
    if fitting:
        best = max(fitting, key=fitting.__getitem__)
        said += f"The next smaller choice: {best} ({human(fitting[best])})"
    else:
        choices = ", ".join(f"{option} ({human(bytes_)})" for option, bytes_ in each.items())
        said += f"No single choice is small enough; combine {choices}" if choices else "Choose fewer sites"
    return f"{said}; or allow more: --limit '{human(size.item * 1.1)}'."


def as_option(setting: str, sampling_steps: int) -> str:
    """A setting of `ditlens.estimate`, such as ``reduce='mean'``, as an option of ``ditlens capture``."""
    name, _, value = setting.partition("=")
    if name == "steps":
        value = ",".join(str(step) for step in range(0, sampling_steps, 4))
    value = value.strip("'").removeprefix("torch.")
    return f"--{name} {value}"


def run(
    model: Model,
    manifest: Manifest,
    folder: str | Path,
    *,
    worker: Worker | None = None,
    limit: str | float = "1 GB",
    progress: Callable[[int, int], None] | None = None,
) -> Study:
    """Capture what is missing of a study.

    Args:
        model: The model; must be the manifest's.
        manifest: What to capture, from `plan`.
        folder: Where; may hold a part of the same study.
        worker: Which of several workers this is; read from the environment by default.
        limit: Most memory for one item.
        progress: Called with (done, total) after every item.

    Returns:
        The study. Items that crashed `ATTEMPTS` times, or that cannot be captured, are in ``study.failures``.

    Raises:
        StudyError: If the folder holds another study.
        DitlensError: If a setting does not fit the model or its limit: every item would fail alike.
    """
    folder, worker = Path(folder), worker or Worker.here()
    capturing(model, manifest, limit)  # settings that do not fit the model leave no manifest
    manifest.begin(folder)
    remove_leftovers(folder)
    study, items = Study(folder), manifest.items
    begin = worker.rank * len(items) // worker.world
    order = items[begin:] + items[:begin]
    tries = dict.fromkeys(items, 0)
    while todo := [i for i in order if not study.path(i).is_file() and tries[i] < ATTEMPTS]:
        moved = False
        for item in todo:
            with claim(folder, item_name(*item)) as mine:
                if not mine or study.path(item).is_file():
                    continue
                moved = True
                try:
                    make_item(model, manifest, folder, item, limit)
                except Exception as error:
                    known = isinstance(error, DitlensError)
                    works = any(study.path(each).is_file() for each in items)
                    if isinstance(error, WRONG) or (known and not works):
                        raise  # it is the settings, not this item
                    tries[item] = ATTEMPTS if known else tries[item] + 1
                    _record_failure(folder, item, error)
                    continue
            if progress is not None:
                progress(sum(study.path(i).is_file() for i in items), len(items))
        if not moved:
            time.sleep(0.2)  # another worker has the rest in hand; if it dies, we take over
    return Study(folder)


def _record_failure(folder: Path, item: tuple[int, int], error: Exception) -> None:
    path = folder / "failures" / f"{item_name(*item)}.json"
    earlier = json.loads(path.read_text("utf-8"))["attempts"] if path.is_file() else 0
    what = {
        "attempts": earlier + 1,
        "error": f"{type(error).__name__}: {error}",
        "trace": traceback.format_exc(),
    }
    write_whole(path, json.dumps(what, indent=2).encode())


def launch(arguments: Sequence[str], workers: int) -> int:
    """Start several workers of ``ditlens capture`` on this machine; returns the exit code.

    The launcher is PyTorch's own, which ``accelerate launch`` wraps too. It restarts workers that die. What they
    print goes to standard error (2): the caller has the last word, which with ``--json`` is the only one.

    Raises:
        DitlensError: The error of the first worker, by rank, that ended with one; such a worker is not restarted.
    """
    threads = max(1, (os.cpu_count() or 1) // workers)
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(workers), "--max_restarts", "3",
        "--rdzv_backend", "c10d", "--rdzv_endpoint", "localhost:0", "-m", "ditlens", *arguments,
    ]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))}
    with tempfile.TemporaryDirectory(prefix="ditlens-") as left:
        run = subprocess.run(command, env=environment | {REFUSALS: left}, stdout=2, check=False)
        for path in sorted(Path(left).glob("*.json")):
            said = json.loads(path.read_text("utf-8"))
            raise getattr(errors, said["type"])(said["message"])
    return run.returncode


def leave_to_launcher(error: DitlensError) -> bool:
    """Leave an error to the launcher of this worker; False if `launch` has not started it.

    The worker then ends as if all were well: PyTorch's launcher would start it again, and it would end alike.
    """
    folder = os.environ.get(REFUSALS)
    if folder is None:
        return False
    said = {"type": type(error).__name__, "message": str(error)}
    write_whole(Path(folder) / f"{Worker.here().rank:05d}.json", json.dumps(said).encode())
    return True


def report(study: Study) -> str:
    """What a study holds, in a few lines for the terminal."""
    size = sum(study.path(item).stat().st_size for item in study.items)
    text = f"{len(study.items)} of {len(study.manifest.items)} items in {study.folder}, {human(size)}"
    for name, what in list(study.failures.items())[:5]:
        times = "" if what["attempts"] == 1 else f" {what['attempts']} times"
        text += f"\n  {name} failed{times}: {what['error'][:200]}"
    if study.missing and not study.failures:
        text += "\n  Type the same command again to go on."
    return text


def read_prompts(path: Path) -> list[str]:
    """Prompts of a text file, one on each line; empty lines and lines that begin with # are left out.

    Raises:
        StudyError: If there are none.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(
            f"{path} cannot be read: {error}. It should hold one prompt on each line."
        ) from error
    prompts = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not prompts:
        raise StudyError(f"{path} holds no prompts. Write one on each line.")
    return prompts
