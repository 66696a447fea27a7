"""The training loop: resuming, averaging, refusing, saving; and Muon. A fake clock ticks once per step."""

from __future__ import annotations

import shutil

import pytest
import torch

from ditlens.errors import SettingError
from ditlens.train import loop
from ditlens.train.loop import Budget, build_optimizers, fit, trapezoid
from ditlens.train.muon import Muon, orthogonalize, orthogonalize_all


class KillError(BaseException):
    """Stands for Ctrl-C and its like."""


class Clock:
    """Seconds since the start; `loss` functions let it tick."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(loop, "time", clock)
    return clock


class Job:
    """A small regression that takes one second per step."""

    def __init__(self, clock: Clock, folder, steps: int = 20, **options) -> None:
        self.budget = Budget(steps / 60, folder, **options)
        self.clock, self.seen, self.weights, self.lines = clock, [], [], []
        torch.manual_seed(0)
        self.net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 2))

    def loss(self, step: int) -> dict[str, torch.Tensor]:
        self.seen.append(step)
        self.weights.append([p.detach().clone() for p in self.net.parameters()])
        x = torch.randn(16, 3, generator=self.budget.generator(step))
        self.clock.now += 1
        return {"error": (self.net(x) - x[:, :2]).square().mean()}

    def run(self, loss=None, **options) -> dict[str, float]:
        options = {"batch": 16, "lr": 0.01, "shown": lambda *line: self.lines.append(line)} | options
        return fit("job", {"net": self.net}, loss or self.loss, self.budget, **options)

    def final(self) -> list[torch.Tensor]:
        return [v.clone() for v in self.net.state_dict().values()]

    def killed_at(self, last: int, error=KillError):
        def loss(step: int) -> dict[str, torch.Tensor]:
            if step == last:
                raise error
            return self.loss(step)

        return loss


def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


# --- budget and resuming -----------------------------------------------------------------------------------


def test_the_budget_is_time(clock, tmp_path):
    job = Job(clock, tmp_path, steps=20)
    report = job.run()
    assert job.seen == list(range(20))
    assert report["steps"] == 20
    assert report["minutes"] == pytest.approx(20 / 60)
    assert report["samples"] == 20 * 16
    assert job.lines[-1] == (20, 20, f"step 20  error {report['error']:.4f}")
    assert 0 < report["error"] < 2
    assert not job.net.training


@pytest.mark.parametrize("muon_lr", [None, 0.02])
@pytest.mark.parametrize("last", [1, 7, 19])
def test_a_resumed_run_is_the_uninterrupted_run(clock, tmp_path, capsys, last, muon_lr):
    whole = Job(clock, tmp_path / "whole")
    whole.run(muon_lr=muon_lr)
    first = Job(clock, tmp_path / "cut")
    with pytest.raises(KillError):
        first.run(first.killed_at(last), muon_lr=muon_lr)
    second = Job(clock, tmp_path / "cut", resume=True)
    with torch.no_grad():
        for p in second.net.parameters():
            p.zero_()  # nothing of a new start may remain
    report = second.run(muon_lr=muon_lr)
    assert second.seen == list(range(last, 20))
    assert report["steps"] == 20
    assert f"job: resumed at step {last}, " in capsys.readouterr().err
    assert same(second.final(), whole.final())


def test_a_hard_kill_continues_at_the_last_checkpoint(clock, tmp_path):
    """What a SIGKILL at step 150 leaves behind is what was on disk before that step."""
    job = Job(clock, tmp_path / "a", steps=200)

    def loss(step: int) -> dict[str, torch.Tensor]:
        if step == 150:
            shutil.copytree(tmp_path / "a", tmp_path / "b")
        return job.loss(step)

    job.run(loss)
    resumed = Job(clock, tmp_path / "b", steps=200, resume=True)
    resumed.run()
    assert resumed.seen == list(range(122, 200)), "saved whenever more than 60 seconds have passed"
    assert same(resumed.final(), job.final())


def test_without_resume_a_run_starts_anew(clock, tmp_path):
    Job(clock, tmp_path, steps=5).run()
    job = Job(clock, tmp_path, steps=5)
    job.run()
    assert job.seen == list(range(5))


def test_resume_without_checkpoint_starts_anew(clock, tmp_path):
    job = Job(clock, tmp_path, steps=5, resume=True)
    job.run()
    assert job.seen == list(range(5))


def test_a_spent_budget_returns_the_trained_weights(clock, tmp_path):
    job = Job(clock, tmp_path, steps=5)
    job.run()
    again = Job(clock, tmp_path, steps=5, resume=True)
    report = again.run()
    assert again.seen == []
    assert report["steps"] == 5
    assert same(again.final(), job.final())


def test_more_minutes_train_on(clock, tmp_path):
    Job(clock, tmp_path, steps=5).run()
    job = Job(clock, tmp_path, steps=8, resume=True)
    job.run()
    assert job.seen == [5, 6, 7]


def test_data_depend_on_seed_and_step_only(tmp_path):
    budget, other = Budget(1, tmp_path), Budget(9, tmp_path, seed=1)
    first, again, next_, elsewhere = (
        torch.rand(3, generator=g)
        for g in (budget.generator(4), budget.generator(4), budget.generator(5), other.generator(4))
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, next_)
    assert not torch.equal(first, elsewhere)


def test_progress_reaches_from_0_to_1(clock, tmp_path):
    job, progress = Job(clock, tmp_path, steps=10), []

    def loss(step: int) -> dict[str, torch.Tensor]:
        progress.append(job.budget.progress)
        return job.loss(step)

    job.run(loss)
    assert progress == pytest.approx([step / 10 for step in range(10)])


# --- the average -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ema", [0.0, 0.3, 0.999])
def test_the_final_weights_are_the_average(clock, tmp_path, ema):
    job = Job(clock, tmp_path, steps=30)
    job.run(ema=ema)
    last = torch.load(tmp_path / "job.checkpoint.pt", weights_only=True)
    names = [name for name, _ in job.net.named_parameters()]
    path = [*job.weights, [last["modules"]["net"][name] for name in names]]
    average = [w.double() for w in path[0]]
    for step, weights in enumerate(path[1:]):
        decay = min(ema, (1 + step) / (10 + step))
        average = [decay * a + (1 - decay) * w.double() for a, w in zip(average, weights, strict=True)]
    for found, expected in zip(job.net.parameters(), average, strict=True):
        torch.testing.assert_close(found.detach(), expected.float(), rtol=0, atol=1e-6)
    assert same([p.detach() for p in job.net.parameters()], last["average"])


# --- what goes wrong ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_loss_that_is_not_finite_stops_and_keeps_the_checkpoint(clock, tmp_path, value):
    Job(clock, tmp_path, steps=5).run()
    before = (tmp_path / "job.checkpoint.pt").read_bytes()
    job = Job(clock, tmp_path, steps=100, resume=True)

    def loss(step: int) -> dict[str, torch.Tensor]:
        return {"error": job.loss(step)["error"] * (float(value) if step >= 17 else 1.0)}

    with pytest.raises(
        SettingError, match=r"Training job failed: the loss 'error' became (nan|inf) at step 20"
    ):
        job.run(loss)
    assert (tmp_path / "job.checkpoint.pt").read_bytes() == before, "broken weights are not saved"
    retry = Job(clock, tmp_path, steps=30, resume=True)
    retry.run(lr=1e-3)
    assert retry.seen[0] == 5
    assert all(p.isfinite().all() for p in retry.net.parameters())


def test_a_crash_while_saving_leaves_the_old_checkpoint(clock, tmp_path, monkeypatch):
    Job(clock, tmp_path, steps=5).run()
    before = (tmp_path / "job.checkpoint.pt").read_bytes()

    def half(state, file):
        file.write(b"half a file")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", half)
    job = Job(clock, tmp_path, steps=9, resume=True)
    with pytest.raises(OSError, match="No space left"):
        job.run()
    assert (tmp_path / "job.checkpoint.pt").read_bytes() == before
    monkeypatch.undo()
    # the clock's patch is undone too: only whether the file can be read matters here
    saved = torch.load(tmp_path / "job.checkpoint.pt", weights_only=True)
    assert saved["step"] == 5


def test_nothing_is_left_beside_the_checkpoint(clock, tmp_path):
    Job(clock, tmp_path, steps=3).run()
    assert [path.name for path in tmp_path.iterdir()] == ["job.checkpoint.pt"]


def test_an_error_before_the_first_step_saves_nothing(clock, tmp_path):
    job = Job(clock, tmp_path)
    with pytest.raises(KillError):
        job.run(job.killed_at(0))
    assert list(tmp_path.iterdir()) == []


# --- rates and optimizers ----------------------------------------------------------------------------------


def test_the_rate_is_a_trapezoid():
    assert trapezoid(0.01) == pytest.approx(0.5)
    assert trapezoid(0.0) > 0
    assert trapezoid(0.3) == 1
    assert trapezoid(0.65) == pytest.approx(1)
    assert trapezoid(0.825) == pytest.approx(0.5)
    assert trapezoid(1.0) == trapezoid(1.2) == 0


def test_rates_follow_the_progress(clock, tmp_path, monkeypatch):
    built = []
    monkeypatch.setattr(loop, "build_optimizers", lambda *a: built.append(build_optimizers(*a)) or built[-1])
    job, rates = Job(clock, tmp_path, steps=100), []

    def loss(step: int) -> dict[str, torch.Tensor]:
        rates.append([group["lr"] for optimizer in built[0] for group in optimizer.param_groups])
        return job.loss(step)

    job.run(loss, lr=0.01, muon_lr=0.1)
    for step in (1, 40, 80, 99):
        assert rates[step] == pytest.approx([0.01 * trapezoid(step / 100), 0.1 * trapezoid(step / 100)])


@pytest.mark.parametrize("muon_lr", [None, 0.1])
def test_every_weight_has_one_optimizer_that_suits_it(muon_lr):
    modules = {"a": torch.nn.Sequential(torch.nn.Embedding(5, 4), torch.nn.Linear(4, 4), torch.nn.LayerNorm(4)),
               "b": torch.nn.Conv2d(2, 3, 3)}  # fmt: skip
    modules["b"].bias.requires_grad_(False)
    optimizers = build_optimizers(modules, 0.01, muon_lr, 0.05, ())
    taken = [p for o in optimizers for g in o.param_groups for p in g["params"]]
    wanted = [p for m in modules.values() for p in m.parameters() if p.requires_grad]
    assert sorted(map(id, taken)) == sorted(map(id, wanted))
    assert len(optimizers) == (1 if muon_lr is None else 2)
    matrices = {id(modules["a"][1].weight), id(modules["b"].weight)}
    for group in optimizers[-1].param_groups:
        if {id(p) for p in group["params"]} <= matrices:
            assert group["weight_decay"] == 0.05
    assert {id(p) for g in optimizers[-1].param_groups if g["weight_decay"] for p in g["params"]} == matrices
    assert {g["peak"] for g in optimizers[0].param_groups} == {0.01}


def test_some_matrices_may_stay_with_adam():
    module = torch.nn.ModuleDict({"proj_out": torch.nn.Linear(3, 2), "inner": torch.nn.Linear(3, 3)})
    adam, muon = build_optimizers({"net": module}, 0.01, 0.1, 0.0, ("proj_out",))
    assert [p for g in muon.param_groups for p in g["params"]] == [module["inner"].weight]
    assert len([p for g in adam.param_groups for p in g["params"]]) == 3


# --- Muon --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(16, 16), (64, 16), (16, 64), (1, 9), (9, 1)])
def test_orthogonalize_brings_singular_values_near_one(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, values, v = torch.linalg.svd(matrix, full_matrices=False)
    found = orthogonalize(matrix)
    assert found.shape == shape
    new = torch.linalg.svdvals(found)
    assert new.max() < 1.25
    assert new[values / values.norm() > 0.02].min() > 0.65
    inner = u.T @ found @ v.T  # the singular directions stay: diagonal
    torch.testing.assert_close(inner, torch.diag(inner.diag()), rtol=0, atol=1e-4)


def test_orthogonalize_ignores_the_scale_and_survives_zero():
    matrix = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(orthogonalize(matrix), orthogonalize(1e4 * matrix), rtol=0, atol=1e-4)
    assert orthogonalize(torch.zeros(4, 3)).count_nonzero() == 0
    assert orthogonalize(matrix.double()).dtype == torch.float64


def test_matrices_of_one_shape_together_are_as_each_alone():
    generator, matrices = torch.Generator().manual_seed(3), []
    for power, shape in enumerate([(8, 5), (3, 8), (8, 5), (5, 8), (8, 5), (3, 8)]):
        matrices.append(10.0 ** (power - 3) * torch.randn(shape, generator=generator))
    for found, matrix in zip(orthogonalize_all(matrices), matrices, strict=True):
        torch.testing.assert_close(found, orthogonalize(matrix), rtol=0, atol=1e-5)
    assert orthogonalize_all([]) == []


def test_a_checkpoint_of_another_recipe_says_so(clock, tmp_path):
    job = Job(clock, tmp_path, steps=3)
    job.run()
    path = next(tmp_path.glob("*.checkpoint.pt"))
    saved = torch.load(path, weights_only=True)
    saved["modules"]["encoder"] = saved["modules"]["net"]
    torch.save(saved, path)
    again = Job(clock, tmp_path, steps=6)
    again.budget.resume = True
    with pytest.raises(SettingError, match=r"another recipe: it trains net, encoder, not net.*--resume"):
        again.run()


def test_one_step_of_muon_by_hand():
    weight = torch.nn.Parameter(torch.randn(6, 2, generator=torch.Generator().manual_seed(1)))
    start = weight.detach().clone()
    weight.grad = torch.randn(6, 2, generator=torch.Generator().manual_seed(2))
    Muon([weight], lr=0.1, momentum=0.9, weight_decay=0.5).step()
    nesterov = 0.1 * weight.grad + 0.9 * 0.1 * weight.grad
    expected = start * (1 - 0.1 * 0.5) - 0.1 * 3**0.5 * orthogonalize(nesterov)
    torch.testing.assert_close(weight.detach(), expected, rtol=0, atol=1e-6)


def test_muon_solves_least_squares_and_takes_kernels():
    generator = torch.Generator().manual_seed(0)
    truth = torch.randn(4, 3, 3, 3, generator=generator)
    conv = torch.nn.Conv2d(3, 4, 3, bias=False)
    optimizer, errors = Muon(conv.parameters(), lr=0.1), []
    for step in range(150):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / 150)
        x = torch.randn(8, 3, 6, 6, generator=generator)
        loss = (conv(x) - torch.nn.functional.conv2d(x, truth)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        errors.append(loss.item())
    assert errors[-1] < 1e-2 * errors[0]


def test_muon_skips_what_has_no_gradient():
    weight = torch.nn.Parameter(torch.ones(2, 2))
    Muon([weight]).step()
    assert torch.equal(weight, torch.ones(2, 2))
