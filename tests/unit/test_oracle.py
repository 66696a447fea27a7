"""The oracle's reading, scoring and files; how well the shipped one reads is measured by the benchmark."""

from __future__ import annotations

import pytest
import torch

from ditlens.errors import ModelError
from ditlens.train import oracle as training
from ditlens.worlds.portraits.attributes import (
    CATEGORICAL,
    CONTINUOUS,
    NAMES,
    describe_values,
    neutral,
    sample,
    take,
    visible,
)
from ditlens.worlds.portraits.oracle import Oracle, targets


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Oracle((4, 8, 8, 8)).eval()


def pictures(count: int = 2, size: int = 128) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def test_shapes(oracle):
    values, logits = oracle(pictures())
    assert values.shape == (2, len(CONTINUOUS))
    assert [tuple(logit.shape) for logit in logits] == [(2, len(c.values)) for c in CATEGORICAL]
    assert oracle.features(pictures()).shape == (2, 256)


def test_what_is_read_is_in_range(oracle):
    with torch.no_grad():
        loud = Oracle((4, 8, 8, 8)).eval()
        loud.continuous.weight.mul_(1000)
    read = loud.read(pictures(4))
    assert tuple(read) == NAMES
    for a in CONTINUOUS:
        assert read[a.name].dtype == torch.float32
        assert ((read[a.name] >= a.low) & (read[a.name] <= a.high)).all()
    for c in CATEGORICAL:
        assert read[c.name].dtype == torch.int64
        assert ((read[c.name] >= 0) & (read[c.name] < len(c.values))).all()
    assert loud.measure(pictures(4)) == [describe_values(read, i) for i in range(4)]


def test_reading_inverts_the_targets():
    """A network that says exactly what it is trained on is read as the attributes themselves."""
    people = sample(20, torch.Generator().manual_seed(1))

    class Perfect(Oracle):
        def forward(self, images):
            logits = [torch.nn.functional.one_hot(people[c.name], len(c.values)).float() for c in CATEGORICAL]
            return targets(people), logits

    assert targets(people).abs().max() <= 1
    read = Perfect((4, 8, 8, 8)).read(pictures(20))
    for name in NAMES:
        torch.testing.assert_close(read[name], people[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [64, 100, 256])
def test_other_sizes_are_resized(oracle, size):
    assert oracle.features(pictures(1, size)).shape == (1, 256)


def test_a_picture_does_not_depend_on_its_batch(oracle):
    batch, single = oracle.features(pictures(4)), oracle.features(pictures(4)[2:3])
    torch.testing.assert_close(batch[2:3], single, rtol=0, atol=1e-5)


def test_saving_and_loading(oracle, tmp_path):
    oracle.save(tmp_path / "oracle")
    loaded = Oracle.load(tmp_path / "oracle")
    assert loaded.widths == oracle.widths
    assert not loaded.training
    assert next(loaded.parameters()).dtype == torch.float32
    torch.testing.assert_close(loaded(pictures())[0], oracle(pictures())[0], rtol=0, atol=5e-3)


def test_loading_what_is_not_there(tmp_path):
    with pytest.raises(ModelError, match=r"No oracle in .*ditlens train oracle"):
        Oracle.load(tmp_path)


# --- training ----------------------------------------------------------------------------------------------


def test_hidden_attributes_are_not_trained_on(oracle):
    shades = neutral(2, glasses="sunglasses")
    assert not visible(shades)["gaze"].any()
    one, other = (shades | {"gaze": torch.full((2,), gaze)} for gaze in (-1.0, 1.0))
    with torch.no_grad():
        terms = [training.loss_terms(oracle, pictures(), truth) for truth in (one, other)]
        seen = [
            training.loss_terms(oracle, pictures(), truth | {"glasses": torch.zeros(2, dtype=torch.int64)})
            for truth in (one, other)
        ]
    assert terms[0]["continuous"] == terms[1]["continuous"]
    assert seen[0]["continuous"] != seen[1]["continuous"]


def test_the_loss_is_zero_for_the_truth_only():
    people = sample(8, torch.Generator().manual_seed(1))

    class Perfect(torch.nn.Module):
        def forward(self, images):
            return targets(people), [
                30 * torch.nn.functional.one_hot(people[c.name], len(c.values)).float() for c in CATEGORICAL
            ]

    terms = training.loss_terms(Perfect(), pictures(8), people)
    assert terms["continuous"] == 0
    shifted = {n: v.roll(1) for n, v in people.items()}
    wrong = training.loss_terms(Perfect(), pictures(8), shifted)
    assert wrong["continuous"] > 1
    assert wrong["categorical"] > 5 * terms["categorical"]


def test_augmented_pictures_stay_pictures():
    image = pictures(8)
    first, again = (training.augment(image, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, again)
    assert first.shape == image.shape
    assert 0 <= first.min() <= first.max() <= 1
    assert 0.001 < (first - image).abs().mean() < 0.2


def test_evaluation_scores_by_hand():
    """Two of 60 hair colours wrong; age off by a constant: R-squared 1 - c^2 / variance."""
    count = 60
    truth = sample(count, torch.Generator().manual_seed(11))

    class Nearly:
        done = 0

        def read(self, images):
            read = {n: v.clone() for n, v in take(truth, slice(self.done, self.done + len(images))).items()}
            read["age"] += 0.1
            if self.done == 0:
                read["hair_color"][:2] = (read["hair_color"][:2] + 1) % 6
            self.done += len(images)
            return read

    report = training.evaluate(Nearly(), torch.device("cpu"), count=count)
    assert tuple(report) == NAMES
    assert report["hair_color"] == pytest.approx(58 / 60)
    assert report["age"] == pytest.approx(1 - 0.01 / truth["age"].var(unbiased=False).item(), abs=1e-5)
    assert all(value == 1 for name, value in report.items() if name not in ("age", "hair_color"))


def test_a_few_steps_teach_something(oracle):
    """The loss falls on one fixed batch: gradients reach every part."""
    from ditlens.worlds.portraits.render import render

    people = sample(8, torch.Generator().manual_seed(2))
    image = render(people, 128)
    student = Oracle((4, 8, 8, 8))
    optimizer = torch.optim.Adam(student.parameters(), 3e-3)
    losses = []
    for _ in range(25):
        loss = torch.stack(list(training.loss_terms(student, image, people).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in student.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.4 * losses[0]
