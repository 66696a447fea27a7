"""Ray instead of ``torchrun``: a driver hands the items of a study to workers of a Ray cluster.

Items, shards and claims are those of `ditlens.lens.study.run`, so both kinds of workers can fill one folder, which
all machines of the cluster must share. Ray starts a worker again when its process dies.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ditlens.errors import MissingDependencyError, ModelError, StudyError
from ditlens.files import user_path
from ditlens.lens.study.manifest import Manifest
from ditlens.lens.study.run import ATTEMPTS, attempt, begin_study, record_failure
from ditlens.lens.study.store import Study
from ditlens.models.loading import load
from ditlens.models.model import Model
from ditlens.tables import Progress, progress_bar

ItemId = tuple[int, int]
"""(number of the prompt, seed)."""


def run_with_ray(
    source: str | Path,
    manifest: Manifest,
    folder: str | Path,
    *,
    workers: int = 2,
    device: str = "auto",
    limit: str | float = "1 GB",
    progress: bool | Progress = True,
) -> Study:
    """Capture the missing items of a study with workers of a Ray cluster; `run_study` does it in this process.

    The cluster is the one that this process is connected to, or that ``RAY_ADDRESS`` names, else one on this
    machine for the length of the run. Each worker loads the model once and has one CPU core, and one GPU where the
    cluster has any. No usage statistics are sent.

    Args:
        source: The model's name, folder or hub id, as `ditlens.load` takes it; the same on all machines.
        manifest: What to capture, from `plan_study`.
        folder: Where, on a drive that all machines share; may hold a part of the same study.
        workers: Number of workers. Those for which the cluster has no room stay idle.
        device: As for `ditlens.load`.
        limit: Most memory for one item.
        progress: Whether a bar is shown; or a function, called with (finished, total) after every item.

    Returns:
        The study; see `run_study` for items that failed.

    Raises:
        MissingDependencyError: If Ray is not installed.
        ModelError: If a worker finds other weights than the manifest's.
        StudyError: If the Ray node itself ends; the items that it was at count as unfinished, not as failed.
        DitlensError: As `run_study`.
    """
    ray, place, path = _ray(), user_path(folder).resolve(), user_path(source, ModelError)
    name = str(path.resolve() if path.is_dir() else source)
    with _cluster(ray):
        gpu = device in ("auto", "cuda") and ray.cluster_resources().get("GPU", 0) > 0
        options = {"num_cpus": 1, "num_gpus": int(gpu), "max_restarts": -1, "max_task_retries": ATTEMPTS - 1}
        remote = ray.remote(**options)(RayWorker).remote
        try:
            actors = [remote(name, device, manifest, place, limit) for _ in range(workers)]
            with progress_bar("items", progress) as show:
                return _distribute(ray, actors, show)
        except ray.exceptions.RayError as error:
            raise StudyError(
                "The Ray node ended, and its workers with it. Start Ray again if you had started it; the same "
                f"command resumes. Ray says: {error}"
            ) from error


@dataclass(eq=False)
class RayWorker:
    """One worker: loads the model once, and captures the items that the driver hands it; see `run_with_ray`."""

    source: str
    device: str
    manifest: Manifest
    folder: Path
    limit: str | float

    @cached_property
    def model(self) -> Model:
        """The model."""
        return load(self.source, device=self.device)

    @cached_property
    def study(self) -> Study:
        """The study, begun."""
        return begin_study(self.model, self.manifest, self.folder, self.limit)

    def begin(self) -> Study:
        """Load the model and begin the study, if another worker has not."""
        return self.study

    def attempt(self, item: ItemId) -> int | None:
        """See `ditlens.lens.study.run.attempt`."""
        return attempt(self.model, self.study, item, self.limit)


def _distribute(ray: Any, actors: list[Any], progress: Callable[[int, int], None] | None) -> Study:
    """Hand the missing items, one at a time, to the workers that are ready, until there are none left."""
    at_work: dict[Any, tuple[Any, ItemId | None]] = {actor.begin.remote(): (actor, None) for actor in actors}
    study: Study | None = None
    todo: deque[ItemId] = deque()
    tries: Counter[ItemId] = Counter()
    while study is None or todo or any(item for _, item in at_work.values()):
        [answer], _ = ray.wait(list(at_work), num_returns=1)
        actor, item = at_work.pop(answer)
        found = _answer(ray, answer, study, item)
        if study is None:
            study = found
            todo.extend(study.missing)
        elif item is not None:
            tries[item] += found or 0
            if not study.path(item).is_file() and tries[item] < ATTEMPTS:
                todo.append(item)
                time.sleep(0.2 if found is None else 0)  # a worker of another run has it
            if progress is not None and not found:
                progress(len(study.manifest.items) - len(study.missing), len(study.manifest.items))
        if todo:
            item = todo.popleft()
            at_work[actor.attempt.remote(item)] = actor, item
    return Study(study.folder)


def _answer(ray: Any, answer: Any, study: Study | None, item: ItemId | None) -> Any:
    """What a worker returned; a worker that died `ATTEMPTS` times with the same item has used up its attempts.

    Raises:
        DitlensError: Its error, if every item would fail alike.
        RayError: If the worker cannot be started again: its node has ended.
    """
    ended = (
        ray.exceptions.ActorDiedError, ray.exceptions.LocalRayletDiedError, ray.exceptions.RaySystemError
    )  # fmt: skip
    try:
        return ray.get(answer)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ended:
        raise
    except ray.exceptions.RayError as error:
        if study is None or item is None:
            raise StudyError(
                f"A Ray worker died {ATTEMPTS} times while it loaded the model: {error}. Its messages are in Ray's "
                "log folder; the usual cause is too little memory: start fewer workers (--workers)."
            ) from error
        record_failure(study.folder, item, error)
        return ATTEMPTS


def _ray() -> Any:
    """Ray, without its usage statistics."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # read when Ray is imported
    try:
        import ray
    except ImportError as error:
        raise MissingDependencyError(
            "The engine 'ray' needs Ray, which is not installed. Type: pip install 'ditlens[cluster]'"
        ) from error
    return ray


@contextlib.contextmanager
def _cluster(ray: Any) -> Iterator[None]:
    """Be connected to a Ray cluster for the length of a block, or longer if this process was before."""
    if ray.is_initialized():
        yield
        return
    ray.init(include_dashboard=False, logging_level="ERROR")
    try:
        yield
    finally:
        ray.shutdown()
