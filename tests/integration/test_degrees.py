"""A grid of degrees: previews from the nodes, and edits that are those of `ditlens.edit` bit for bit."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

import ditlens as dl
from ditlens.ems import degrees
from ditlens.ems.degrees import DegreeGrid, in_company
from ditlens.ems.methods import CSDS, FLOWSLIDER, OdeEdit
from ditlens.ems.plan import EditSettings, make_plan
from ditlens.ems.sample import METHODS
from ditlens.errors import SettingError
from ditlens.images import to_image
from ditlens.lens.interventions import scale
from ditlens.worlds.portraits.attributes import neutral
from ditlens.worlds.portraits.render import render

QUICK = OdeEdit("quick", source_guidance=2.0, target_guidance=2.0, steps=4)
PLAIN = OdeEdit("plain", steps=4)
TEXTS = {
    "source_text": "a portrait of a young person, round glasses",
    "target_text": "a portrait of a young person, a crown, no glasses",
}


@pytest.fixture(scope="module")
def plan_of(portraits):
    """Plans of one edit with any method and mask."""
    portrait = to_image(render(neutral(smile=0.4, glasses="round"), 128))

    def make(method=PLAIN, mask=None):
        return make_plan(portraits, portrait, "", EditSettings(**TEXTS, method=method, mask=mask))

    return make


def made(plan, nodes=(0.0, 0.5, 1.0)) -> DegreeGrid:
    grid = DegreeGrid(plan, nodes)
    for _ in grid.steps():
        pass
    return grid


def alone(plan, degree: float) -> torch.Tensor:
    """The latents of an edit that shares nothing."""
    *_, last = plan.states([degree])
    return last.latents


@pytest.mark.parametrize("name", METHODS)
def test_nodes_and_edits_of_every_method(plan_of, name):
    plan = plan_of(dataclasses.replace(METHODS[name], steps=3))
    grid = made(plan, (-0.5, 0.0, 1.0))
    for node in grid.nodes:
        torch.testing.assert_close(grid.latents_at(node), alone(plan, node), rtol=0, atol=2e-4)
    for degree in (0.7, 0.4, -0.3):  # from the second on with what was kept
        edit, true = grid.edit(degree), alone(plan, degree)
        assert torch.equal(edit.latents, true)
        assert np.array_equal(edit.image, to_image(plan.model.decode(true)))
        assert edit.recipe == plan.recipe(degree) and edit.degree == degree


@pytest.mark.parametrize(
    "method",
    [PLAIN, QUICK, dataclasses.replace(PLAIN, averages=2), dataclasses.replace(FLOWSLIDER, steps=3),
     dataclasses.replace(CSDS["orthogonal"], steps=3), dataclasses.replace(METHODS["dvrf"], steps=3)],
    ids=lambda method: method.name,
)  # fmt: skip
def test_what_is_kept_stands_for_what_would_be_evaluated(plan_of, method):
    plan, kept = plan_of(method), {}
    *_, first = plan.states([1.0], kept)
    assert len(kept) == method.steps * method.averages if method.active == 1 else kept
    *_, second = plan.states([0.6], kept)
    torch.testing.assert_close(second.latents, alone(plan, 0.6), rtol=0, atol=1e-4)
    assert torch.equal(first.latents, alone(plan, 1.0))
    at_q = 1 + (method.source_guidance != 1)
    assert first.evaluations - second.evaluations == at_q * first.calls
    *_, both = plan.states([0.3, 0.6], {})
    assert both.evaluations == first.evaluations + second.evaluations, "one source's side for two"
    torch.testing.assert_close(both.latents[1:], second.latents, rtol=0, atol=1e-4)


def test_methods_whose_source_side_depends_on_the_degree_share_nothing(plan_of):
    plan, kept = plan_of(dataclasses.replace(METHODS["hsds-recon"], steps=3)), {}
    *_, state = plan.states([1.0], kept)
    assert kept == {} and not degrees.same_alone(plan)
    assert torch.equal(state.latents, alone(plan, 1.0))


def test_edits_after_the_first_cost_the_targets_rows_only(plan_of):
    grid = DegreeGrid(plan_of(PLAIN))
    costs = [grid.edit(degree).evaluations for degree in (1.0, 0.5, 0.25)]
    assert costs[0] == 8 and costs[1] == costs[2]
    assert costs[1] == (4 if degrees.same_alone(grid.plan) else 8)


def test_an_edit_is_the_whole_edit(plan_of, portraits):
    plan = plan_of(PLAIN, mask="difference")
    grid = DegreeGrid(plan)
    grid.edit(1.0)
    mine = grid.edit(0.8)
    whole = dl.edit(portraits, plan.source_image, **TEXTS, degree=0.8, method=PLAIN, mask="difference")
    assert np.array_equal(mine.image, whole.image) and torch.equal(mine.latents, whole.latents)
    assert (mine.recipe, mine.before, mine.after, mine.targets, mine.drift, mine.warnings) == (
        whole.recipe, whole.before, whole.after, whole.targets, whole.drift, whole.warnings,
    )  # fmt: skip
    assert np.array_equal(grid.edit(0.0).image, plan.reconstruction)


def test_stopping_and_going_on(plan_of):
    grid = DegreeGrid(plan_of(), (0.0, 0.5, 1.0))
    with pytest.raises(SettingError, match="nothing to preview yet"):
        grid.preview(0.3)
    seen = []
    for state in grid.steps():
        seen.append(state.step)
        if state.step == 1:
            break
    assert not grid.ready and grid.state.step == 1
    rough = grid.latents_at(1.0)
    torch.testing.assert_close(rough, grid.state.clean[-1:], rtol=0, atol=0)
    assert grid.preview(0.3).size == (128, 128)
    seen += [state.step for state in grid.steps()]
    assert seen == [0, 1, 2, 3] and grid.ready
    assert list(grid.steps()) == [], "nothing is made twice"
    assert grid.state.evaluations == 4 * (1 + 2), "the source once, degree 0 not at all"
    assert not torch.equal(grid.latents_at(1.0), rough)


def test_nodes_use_what_an_edit_has_kept_and_leave_it_as_it_is(plan_of, monkeypatch):
    monkeypatch.setattr(degrees, "same_alone", lambda plan: True)
    plan = plan_of()
    grid = DegreeGrid(plan, (0.0, 0.5, 1.0))
    grid.edit(1.0)
    kept = dict(grid._kept)
    assert [state.evaluations for state in grid.steps()] == [1, 2, 3, 4], "the target's row of one node"
    assert grid._kept == kept
    other = made(plan)
    other.edit(0.25)
    assert all(torch.equal(other._kept[look], kept[look]) for look in kept), "as an edit alone rounds"


def test_many_nodes_are_made_a_few_at_a_time(plan_of):
    plan = plan_of()
    grid, rows = DegreeGrid(plan), []
    for state in grid.steps():
        rows.append(len(state.latents))
        assert grid.latents_at(1.5).isfinite().all()
    assert rows == [4] * 4 + [4] * 4 and grid.ready
    assert grid.state.evaluations == 4 * 4, "the first batch has found the source's side"
    for node in grid.nodes:
        torch.testing.assert_close(grid.latents_at(node), alone(plan, node), rtol=0, atol=1e-4)


def test_an_edit_that_is_stopped_spoils_nothing(plan_of):
    plan = plan_of()
    grid = DegreeGrid(plan)

    def stop_at(step):
        def stop(state):
            if state.step == step:
                raise KeyboardInterrupt

        return stop

    for step in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            grid.edit(0.9, on_step=stop_at(step))
    assert torch.equal(grid.edit(0.4).latents, alone(plan, 0.4))
    assert torch.equal(grid.edit(0.9).latents, alone(plan, 0.9))


def test_nodes_that_were_interrupted_within_a_step_begin_anew(plan_of, monkeypatch):
    plan = plan_of()
    grid, calls = DegreeGrid(plan, (0.0, 1.0)), []
    evaluate = type(plan.model).__call__

    def interrupted(model, *args):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return evaluate(model, *args)

    monkeypatch.setattr(degrees, "same_alone", lambda plan: False)
    monkeypatch.setattr(type(plan.model), "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(grid.steps())
    assert [state.step for state in grid.steps()] == [0, 1, 2, 3] and len(calls) == 6
    torch.testing.assert_close(grid.latents_at(1.0), alone(plan, 1.0))


def test_between_the_nodes_is_a_straight_line(plan_of):
    grid = made(plan_of())
    zero, half, one = map(grid.latents_at, (0.0, 0.5, 1.0))
    torch.testing.assert_close(grid.latents_at(0.875), half + 0.75 * (one - half))
    torch.testing.assert_close(grid.latents_at(1.5), half + 2 * (one - half), rtol=0, atol=1e-5)
    torch.testing.assert_close(grid.latents_at(-0.25), zero - 0.5 * (half - zero), rtol=0, atol=1e-5)
    true = grid.edit(0.8)
    assert torch.equal(grid.latents_at(0.8), true.latents)
    assert np.array_equal(grid.preview(0.8), true.image), "an edit that was made is a node"
    torch.testing.assert_close(grid.latents_at(0.9), (true.latents + one) / 2)


def test_captures_see_all_rows_and_interventions_act(plan_of, portraits):
    plan = plan_of()
    grid = DegreeGrid(plan)
    grid.edit(1.0)
    with dl.capture(portraits, "joint.0.image.out", passes=("source", "target")) as cache:
        edit = grid.edit(0.5)
    assert tuple(cache.passes) == ("source", "target") and edit.evaluations == 8
    with dl.intervene(portraits, {"joint.0.image.out": scale(0.5)}):
        changed = grid.edit(0.5)
        assert torch.equal(changed.latents, alone(plan, 0.5))
    assert not torch.equal(changed.latents, edit.latents)
    assert torch.equal(grid.edit(0.5).latents, edit.latents)


def test_another_number_of_threads_keeps_nothing(plan_of, monkeypatch):
    monkeypatch.setattr(degrees, "same_alone", lambda plan: True)
    grid = DegreeGrid(plan_of())
    assert [grid.edit(degree).evaluations for degree in (1.0, 0.5)] == [8, 4]
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1 + threads % 2)
        assert [grid.edit(degree).evaluations for degree in (1.0, 0.5)] == [8, 4]
    finally:
        torch.set_num_threads(threads)


def test_where_rounding_differs_everything_is_evaluated(plan_of, monkeypatch):
    monkeypatch.setattr(degrees, "same_alone", lambda plan: False)
    grid = DegreeGrid(plan_of())
    assert [grid.edit(degree).evaluations for degree in (1.0, 0.5)] == [8, 8]


def test_a_lone_row_is_computed_as_one_of_two():
    rows = []

    def states():
        linear = torch.nn.Linear(3, 2)
        linear.register_forward_hook(lambda module, args, out: rows.append(out.shape))
        for x in (torch.ones(1, 3), torch.ones(2, 3), torch.ones(1, 5, 3)):
            yield linear(x)

    assert [tuple(out.shape) for out in in_company(states())] == [(1, 2), (2, 2), (1, 5, 2)]
    x, weight = torch.randn(1, 64), torch.randn(8, 64)
    with degrees._InCompany():
        found = torch.nn.functional.linear(x, weight)
    assert torch.equal(found[0], torch.nn.functional.linear(torch.cat([x, x]), weight)[0])


@pytest.mark.parametrize("nodes", [(1.0,), (0.5, 0.5), (), "01", (0.0, 4.0), (0.0, None)])
def test_nodes_that_cannot_be(plan_of, nodes):
    with pytest.raises(SettingError, match="degree"):
        DegreeGrid(plan_of(), nodes)


def test_other_refusals(plan_of):
    grid = made(plan_of())
    for call in (grid.latents_at, grid.preview, grid.edit):
        with pytest.raises(SettingError, match=r"outside \[-2, 3\]"):
            call(3.5)
    with pytest.raises(SettingError, match="plan is"):
        DegreeGrid("plan")
    with pytest.raises(SettingError, match="on_step is 3"):
        grid.edit(1.0, on_step=3)
    assert repr(grid) == "DegreeGrid(3 nodes, ready)"
