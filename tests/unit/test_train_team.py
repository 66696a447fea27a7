"""Several processes that train one model do what one process with the whole batch does."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from ditlens.train import team
from ditlens.train.loop import Budget, fit

PROGRAM = """
import sys, torch
from pathlib import Path
from ditlens.train import loop, team
from ditlens.train.loop import Budget, fit
from test_train_team import Clock, batch, network

torch.set_num_threads(1)
folder = Path(sys.argv[1])
with team.joined(torch.device("cpu")):
    loop.time = clock = Clock(slow=team.rank())
    net, seen = network(), []
    def loss(step):
        seen.append(step)
        clock.now += 1
        x = batch(step)
        return {"error": (net(x) - x[:, :2]).square().mean()}
    with team.leader_first():
        if team.rank() == 0:
            (folder / "drawn").touch()
        assert (folder / "drawn").exists()
    report = fit("job", {"net": net}, loss, Budget(12 / 60, folder), batch=16, lr=0.01, muon_lr=0.02, shown=False)
    torch.save({"net": net.state_dict(), "seen": seen, "steps": report["steps"]}, folder / f"{team.rank()}.pt")
"""


class Clock:
    """Seconds since the start. That of the second process runs fast: rank 0 decides when time is up."""

    def __init__(self, slow: int = 0) -> None:
        self.now, self.pace = 1000.0, 1 + slow

    def monotonic(self) -> float:
        return self.now * self.pace


def network() -> torch.nn.Module:
    torch.manual_seed(3)
    return torch.nn.Sequential(
        torch.nn.Linear(3, 8), torch.nn.GELU(), torch.nn.Linear(8, 8), torch.nn.Linear(8, 2)
    )


def batch(step: int) -> torch.Tensor:
    return torch.randn(16, 3, generator=torch.Generator().manual_seed(step))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What two processes leave behind."""
    folder = tmp_path_factory.mktemp("team")
    (folder / "program.py").write_text(PROGRAM)
    paths = os.pathsep.join([os.path.dirname(__file__), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    subprocess.run([*command, folder / "program.py", folder], env=environment, check=True, timeout=120)
    return folder


def test_both_end_at_the_same_step_with_the_same_weights(folder):
    first, second = (torch.load(folder / f"{rank}.pt") for rank in (0, 1))
    assert first["steps"] == second["steps"] == 12
    assert first["seen"] == list(range(0, 24, 2))
    assert second["seen"] == list(range(1, 24, 2))
    assert all(torch.equal(first["net"][k], second["net"][k]) for k in first["net"])


def test_two_processes_are_one_with_twice_the_batch(folder, tmp_path, monkeypatch):
    from ditlens.train import loop

    monkeypatch.setattr(loop, "time", clock := Clock())
    net = network()

    def loss(step: int) -> dict[str, torch.Tensor]:
        clock.now += 1
        x = torch.cat([batch(2 * step), batch(2 * step + 1)])
        return {"error": (net(x) - x[:, :2]).square().mean()}

    fit("job", {"net": net}, loss, Budget(12 / 60, tmp_path), batch=16, lr=0.01, muon_lr=0.02, shown=False)
    together = torch.load(folder / "0.pt")["net"]
    for name, value in net.state_dict().items():
        torch.testing.assert_close(together[name], value, rtol=0, atol=1e-5)
        assert (value - network().state_dict()[name]).abs().max() > 1e-3, "it has moved"


def test_alone_nothing_happens():
    assert (team.size(), team.rank()) == (1, 0)
    one = torch.ones(3)
    team.total([one], 5.0)
    team.wait()
    assert one.tolist() == [1, 1, 1]
    assert team.agree(3.5, torch.device("cpu")) == 3.5
