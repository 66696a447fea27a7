"""Workers: several processes of one ``ditlens`` command, on this machine or on many.

`launch` starts them with PyTorch's own launcher. ``torchrun``, ``accelerate launch``, ``srun`` and SLURM arrays
start them too; each finds in its environment which one it is. Workers that `launch` has started end with it, also
if it is killed.
"""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ditlens import errors
from ditlens.errors import DitlensError
from ditlens.files import is_gone, write_json

LAUNCHER = "DITLENS_LAUNCHER"
"""Environment variable with the process number of the launcher."""
REFUSALS = "DITLENS_REFUSALS"
"""Environment variable with the folder in which workers leave the error that ended them, for their launcher."""


@dataclass(frozen=True)
class Worker:
    """Which of several workers this process is.

    Attributes:
        rank: Its number among all, from 0.
        world: How many there are.
        local: Its number among those of this machine, from 0.
    """

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
        import torch

        if asked in ("auto", "cuda") and torch.cuda.is_available():
            return f"cuda:{self.local % torch.cuda.device_count()}"
        return asked


def launch(arguments: Sequence[str], workers: int, *, restarts: int = 0) -> int:
    """Run a ``ditlens`` command in several processes on this machine; returns the exit code.

    What they print goes to standard error: standard output is the caller's. Each computes with its share of the
    cores, unless ``OMP_NUM_THREADS`` is set.

    Args:
        arguments: The words after ``ditlens``.
        workers: Number of processes.
        restarts: How often they are started again after one has died.

    Raises:
        DitlensError: The error of the first worker, by rank, that ended with one (see `leave_to_launcher`).
    """
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(workers),
        "--max_restarts", str(restarts), "-m", "ditlens.workers", *arguments,
    ]  # fmt: skip
    threads = str(max(1, (os.cpu_count() or 1) // workers))
    with tempfile.TemporaryDirectory(prefix="ditlens-") as left:
        environment = {"OMP_NUM_THREADS": threads, **os.environ, LAUNCHER: str(os.getpid()), REFUSALS: left}
        code = subprocess.run(command, env=environment, stdout=2, check=False).returncode
        for path in sorted(Path(left).glob("*.json")):
            said = json.loads(path.read_text("utf-8"))
            raise getattr(errors, said["type"])(said["message"])
    return code


def leave_to_launcher(error: DitlensError) -> bool:
    """Leave an error to the launcher of this worker; False if `launch` has not started it.

    The worker then ends as if all were well: PyTorch's launcher would start it again, and it would end alike.
    """
    folder = os.environ.get(REFUSALS)
    if folder is None:
        return False
    said = {"type": type(error).__name__, "message": str(error)}
    write_json(Path(folder) / f"{Worker.here().rank:05d}.json", said)
    return True


def end_with(*processes: int, every: float = 1.0) -> None:
    """End this process when one of those that started it is gone, killed without a chance to end its workers.

    What workers write is there whole or not at all, so nothing is lost but what they are working on.

    Args:
        processes: Their numbers.
        every: Seconds between looks.
    """

    def watch() -> None:
        while not any(map(is_gone, processes)):
            time.sleep(every)
        os._exit(0)  # PyTorch's launcher, where it is left, starts others again

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":  # one worker, started by `launch`
    end_with(os.getppid(), int(os.environ[LAUNCHER]))
    runpy.run_module("ditlens", run_name="__main__", alter_sys=True)
