"""Patching and knocking out: rows of one batch, each changed as its own cell says."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch

import ditlens as dl
from ditlens.analysis import ablation
from ditlens.analysis.cells import Cell, Sampler, by_rows, places_of
from ditlens.analysis.measures import Pair
from ditlens.analysis.patcher import Donor, drawn_pairs
from ditlens.analysis.patching import stretches_of
from ditlens.analysis.prompts import alignments
from ditlens.errors import ModelError, SettingError, UnknownAttributeError
from ditlens.lens.interventions import Where
from ditlens.lens.site import Site
from ditlens.views import maps

CLEAN, CORRUPT = "a woman with red hair and a red shirt", "a red hat"
IN = ["joint.0.text.in", "joint.1.text.in", "joint.0.image.in", "cond"]
FEW = {"seeds": [3, 4], "sampling_steps": 3}


def spot(images: torch.Tensor) -> torch.Tensor:
    """The red in one corner, in which images of an untrained model differ most."""
    return images[:, 0, 40:50, 40:50].mean((1, 2))


def sampler(model, guidance: float = 1.0) -> Sampler:
    return Sampler(model, [3, 4], 3, guidance)


def drawn(sampler: Sampler, base, cells: list[Cell]) -> torch.Tensor:
    """Images of all cells and items, (cells, items, 3, height, width)."""
    found = {}
    for rows, pixels in sampler.run_cells(base, cells):
        found |= dict(zip(rows, pixels, strict=True))
    assert len(found) == len(cells) * len(base.text)
    return torch.stack([torch.stack([found[c, i] for i in range(len(base.text))]) for c in range(len(cells))])


# --- exactness ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_the_whole_prompt_from_the_first_block_on_is_the_clean_image(portraits, guidance):
    found = dl.patch(
        portraits, CLEAN, CORRUPT, measure=spot, stream=["text", "pooled"], steps=1, guidance=guidance,
        controls=False, direction="both", **FEW,
    )  # fmt: skip
    assert found.directions == ("sufficiency", "necessity") and found.places == ("0", "1")
    assert found.effects[:, 0] == pytest.approx(1, abs=1e-3)
    ends = [spot(portraits.sample([p] * 2, [3, 4], steps=3, guidance=guidance)) for p in (CLEAN, CORRUPT)]
    assert found.ends == pytest.approx(np.stack(ends, 1), abs=1e-6)
    clean, corrupt, first, _ = (np.asarray(picture, int) for picture in found.pictures)
    assert np.abs(first - clean).max() <= 1 < np.abs(first - corrupt).max()


def test_own_states_change_nothing_and_others_do(portraits):
    each = sampler(portraits)
    base, own = each.captured([CORRUPT] * 2, IN)
    other = each.captured([CLEAN] * 2, IN)[1]
    images = drawn(each, base, [Cell(dict.fromkeys(IN, Donor(cache)), 0, 3) for cache in (own, other)])
    assert torch.allclose(images[0], base.images, atol=1e-5)
    assert (images[1] - base.images).abs().max() > 1e-3


def test_text_tokens_have_no_place_and_image_tokens_have(portraits):
    each = sampler(portraits)
    base, cache = each.run([CORRUPT] * 2), each.captured([CLEAN] * 2, IN)[1]
    donors = [Donor(cache, kind=kind) for kind in ("patch", "permuted")]
    text = drawn(each, base, [Cell({IN[0]: donor}, 0, 3) for donor in donors])
    assert torch.allclose(text[0], text[1], atol=1e-4)
    image = drawn(each, base, [Cell({IN[2]: donor}, 0, 3) for donor in donors])
    assert (image[0] - image[1]).abs().max() > 0.01


def test_cells_in_one_batch_are_as_each_alone(portraits, monkeypatch):
    each = sampler(portraits, guidance=2.0)
    base, _ = each.captured([CORRUPT, CLEAN], IN)
    donor = Donor(each.captured([CLEAN, CORRUPT], IN)[1])
    cells = [Cell({site: donor}, *stretch) for site in IN for stretch in ((0, 3), (1, 2), (2, 3))]
    together = drawn(each, base, cells)
    alone = torch.cat([drawn(each, base, [cell]) for cell in cells])
    assert torch.allclose(together, alone, atol=1e-5)
    assert (together - base.images).flatten(2).abs().amax(-1).min() > 1e-6, "each cell changes its images"
    monkeypatch.setattr(Sampler, "rows", 5)  # batches that cut through cells
    assert torch.allclose(drawn(each, base, cells), together, atol=1e-5)


def test_a_cell_acts_from_its_first_step_to_before_its_last(portraits):
    each, seen = sampler(portraits, guidance=2.0), []

    def note(values, where, items):
        seen.append((where.step, where.pass_, items))
        return values

    base = each.run([CLEAN, CORRUPT])
    images = drawn(each, base, [Cell({IN[0]: note}, 1, 2), Cell({IN[1]: note}, 1, 3)])
    assert seen == [(1, "cond", [0, 1]), (1, "cond", [0, 1]), (2, "cond", [0, 1])]
    assert torch.allclose(images, base.images.expand_as(images), atol=1e-5)


def test_only_rows_of_a_cell_change():
    double, zero = (lambda values, where, items: 2 * values), (lambda values, where, items: 0 * values)
    cells = [Cell({"a": double}, 0, 2), Cell({"b": double}, 0, 2), Cell({"a": zero}, 1, 2)]
    change = by_rows("a", cells, [0, 0, 0])
    values, site = torch.ones(3, 1, 1), Site("joint", 0, "text", "in")
    assert change(values, Where(site, 0, "cond")).flatten().tolist() == [2, 1, 1]
    assert change(values, Where(site, 1, "cond")).flatten().tolist() == [2, 1, 0]
    assert change(values, Where(site, 2, "cond")).flatten().tolist() == [1, 1, 1]


def test_random_states_are_as_far_away_and_tokens_are_chosen(portraits):
    each = sampler(portraits)
    cache = each.captured([CLEAN] * 2, IN)[1]
    there, where = cache[IN[0], 1], Where(Site.parse(IN[0]), 1, "cond")
    values = torch.zeros_like(there)
    noise = Donor(cache, kind="random")(values, where, [0, 1])
    assert torch.allclose(noise.norm(dim=-1), there.norm(dim=-1), rtol=1e-4)
    assert torch.cosine_similarity(noise, there, -1).abs().mean() < 0.3
    chosen = Donor(cache, ((5,), (6, 7)))(values, where, [0, 1])
    assert chosen.any(-1).nonzero().tolist() == [[0, 5], [1, 6], [1, 7]]
    assert torch.equal(chosen[1, 6], there[1, 6])


# --- settings ----------------------------------------------------------------------------------------------


def test_columns_of_a_map():
    assert stretches_of(None, "all", 10) == [(0, 2), (0, 4), (0, 6), (0, 8), (0, 10)]
    assert stretches_of(None, "each", 10) == [(0, 10)]
    assert stretches_of([(2, 4), (0, 10)], "all", 10) == [(2, 4), (0, 10)]


def test_places(portraits):
    both = places_of(portraits, ["text", "pooled"], ["k", "v"], None, 1)
    assert [place.label for place in both] == ["0", "1"]
    assert both[1].sites == ("joint.1.text.k", "joint.1.text.v", "cond")
    window = places_of(portraits, ["image"], ["mlp.out"], [0], 2)
    assert [place.sites for place in window] == [("joint.0.image.mlp.out", "joint.1.image.mlp.out")]
    assert places_of(portraits, ["pooled"], ["in"], None, 1)[0].sites == ("cond",)


def test_the_patches_of_one_block(portraits):
    found = dl.patch(
        portraits, CLEAN, CORRUPT, measure=spot, stream="image", tokens="each", blocks=[1],
        seeds=[3], sampling_steps=1, controls=False,
    )  # fmt: skip
    assert found.grid == (8, 8) and found.effects.shape == (1, 64, 1, 1)
    assert len(np.unique(found.effects.round(6))) > 10, "patches differ"
    lines = repr(found).splitlines()
    largest = np.abs(found.effects[0, :, 0, 0]).argsort()[::-1][:12]
    assert {int(line.split()[0]) for line in lines if line[:1].isdigit()} == set(largest.tolist())
    assert lines[-1] == "The 12 largest of 64; all: .to_pandas()"


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"measure": "smiel"}, UnknownAttributeError, "no attribute 'smiel'"),
        ({"measure": 3}, SettingError, "give an attribute's name, or a function"),
        ({"measure": lambda images: images}, SettingError, "no number for each of 2 images"),
        (
            {"measure": lambda images: images.new_ones(len(images))},
            SettingError,
            "1 in the image of .* too little",
        ),
        ({"corrupt": None}, SettingError, "1 prompt and corrupt 0"),
        ({"clean": None, "corrupt": None}, SettingError, "Give two prompts"),
        ({"steps": [(2, 9)]}, SettingError, r"\(2, 9\) is not one of 3"),
        ({"steps": 4}, SettingError, "4 stretches"),
        ({"blocks": [7]}, SettingError, "no block 7"),
        ({"tokens": "each"}, SettingError, "needs stream='image'"),
        ({"tokens": "each", "stream": "image"}, SettingError, "say which"),
        ({"tokens": "changed", "stream": "image"}, SettingError, "needs stream='text'"),
        ({"tokens": "changed", "corrupt": "a shirt"}, SettingError, "same number of tokens"),
        ({"tokens": [2, 99]}, SettingError, "tokens has 99, and joint.0.text.in has .* tokens, 0 to"),
        ({"window": 3}, SettingError, "window is 3, and this model has 2 blocks"),
        ({"clean": [CLEAN] * 2, "corrupt": [CORRUPT] * 2}, SettingError, "more than once. It gives the same"),
        ({"stream": "sound"}, SettingError, "one of 'text', 'image', 'pooled'"),
        ({"point": "out"}, SettingError, "point is 'out'"),
    ],
)
def test_refused(portraits, settings, error, words):
    given = {"clean": CLEAN, "corrupt": CORRUPT, "measure": spot, **FEW, **settings}
    with pytest.raises(error, match=words):
        dl.patch(portraits, **given)


def test_a_model_without_a_world_takes_a_function(portraits):
    model = dl.wrap(portraits.pipe)
    assert model.world is None
    with pytest.raises(ModelError, match="no world that reads attributes"):
        dl.patch(model, CLEAN, CORRUPT, measure="smile")
    with pytest.raises(ModelError, match="Give measure="):
        dl.knock_out(model)
    found = dl.patch(model, CLEAN, CORRUPT, measure=spot, steps=1, **FEW)
    assert np.isfinite(found.effects).all() and np.isnan(found.drift).all()
    assert found.controls["unrelated"].shape == (1, 2, 2)


def test_no_hooks_stay_after_an_interrupt(portraits):
    calls = []

    def interrupted(images):
        calls.append(len(images))
        if len(calls) > 2:
            raise KeyboardInterrupt
        return spot(images)

    with pytest.raises(KeyboardInterrupt):
        dl.patch(portraits, CLEAN, CORRUPT, measure=interrupted, **FEW)
    assert dl.hooks_on(portraits) == []


# --- pairs -------------------------------------------------------------------------------------------------


def test_minimal_pairs_differ_in_one_attribute_and_align(portraits):
    aligned = 0
    for name, spec in portraits.world.attributes.items():
        for seed in (0, 1):
            pair = Pair.written(portraits, name, seed)
            wanted = portraits.world.wanted(pair.corrupt, pair.clean)
            assert set(wanted) == {name} and wanted[name] != spec.rest, pair
            aligned += all(found.aligned for found in alignments(portraits, pair.corrupt, pair.clean))
    assert aligned >= 30, f"{aligned} of 36 are aligned"


def test_a_pair_that_is_drawn_wrong_is_replaced(portraits, monkeypatch):
    """The model of the tests is untrained: what its world measures is made up here."""
    world, calls = portraits.world, []

    def measure(images):
        calls.append(len(images))
        smiles = {1: [0.9, 0.0], 2: [-0.9, 0.1], 3: [0.9], 4: [-0.5]}[len(calls)]
        return [dict.fromkeys(world.attributes, smile) for smile in smiles]

    monkeypatch.setattr(type(world), "measure", lambda self, images: measure(images))
    first, second = drawn_pairs(portraits, "smile", [5, 6], 1, 1.0)
    assert calls == [2, 2, 1, 1] and first == Pair.written(portraits, "smile", 5)
    assert second == Pair.written(portraits, "smile", 6, 1) != Pair.written(portraits, "smile", 6)
    same = dict.fromkeys(world.attributes, 0.0)
    monkeypatch.setattr(type(world), "measure", lambda self, images: [same] * len(images))
    with pytest.raises(SettingError, match="draws no two images that differ in 'smile'"):
        dl.patch(portraits, measure="smile", seeds=[5], sampling_steps=1)


def facts(world, **values):
    return {name: spec.value_of(spec.rest) for name, spec in world.attributes.items()} | values


def test_a_pair_that_does_not_show_what_is_measured_is_refused(portraits, monkeypatch):
    """Made up, too: the eyes are open and closed, once behind sunglasses."""
    world = portraits.world
    shut, open_, covered = (
        facts(world, eye_open=0.1), facts(world, eye_open=0.9), facts(world, eye_open=0.9, glasses="sunglasses")
    )  # fmt: skip
    assert world.hidden(covered) == {"eye_open"} or "eye_open" in world.hidden(covered)
    seen = iter([[covered], [shut]])
    monkeypatch.setattr(type(world), "measure", lambda self, images: next(seen))
    given = {"measure": "eye_open", "seeds": [0], "sampling_steps": 1}
    with pytest.raises(
        SettingError, match="eye_open cannot be seen in the image of 'a' .seed 0.: something covers"
    ):
        dl.patch(portraits, "a", "b", **given)
    seen = iter([[covered], [shut], [open_], [shut]])
    assert drawn_pairs(portraits, "eye_open", [0], 1, 1.0) == [Pair.written(portraits, "eye_open", 0, 1)]


def test_images_that_do_not_show_it_after_a_patch_do_not_count(portraits, monkeypatch):
    """The eyes are open and shut; after the patch the first two items wear sunglasses."""
    world = portraits.world
    shut, open_, covered = (
        facts(world, eye_open=0.1), facts(world, eye_open=0.9), facts(world, eye_open=0.5, glasses="sunglasses")
    )  # fmt: skip
    patched = [facts(world, eye_open=0.3), facts(world, eye_open=0.5)]
    seen = iter([[open_] * 4, [shut] * 4, [covered, covered, *patched]])
    monkeypatch.setattr(type(world), "measure", lambda self, images: next(seen))
    given = {"measure": "eye_open", "seeds": range(4), "blocks": 1, "steps": 1, "controls": False}
    found = dl.patch(portraits, "a", "b", sampling_steps=1, **given)
    assert found.table()[0, 0] == pytest.approx(0.375) and np.isnan(found.effects).sum() == 2
    assert found.intervals()[0, 0] == pytest.approx([0.25, 0.5])
    assert "4 items: intervals of so few are too narrow" in repr(found)
    assert repr(found).endswith("eye_open cannot be seen in 2 images: these do not count.")
    assert found.to_pandas()["n"].tolist() == [2]
    figure = found.plot()
    assert figure.get_supxlabel() == "eye_open cannot be seen in 2 images: these do not count."


def test_items_that_cannot_be_read_after_a_knock_out_do_not_count(portraits, monkeypatch):
    world = portraits.world
    covered = facts(world, eye_open=0.5, glasses="sunglasses")
    after = [covered, facts(world, eye_open=0.4), facts(world, eye_open=0.6), covered]
    seen = iter([[facts(world, eye_open=0.5)] * 4, after])
    monkeypatch.setattr(type(world), "measure", lambda self, images: next(seen))
    given = {"measure": "eye_open", "how": "zero", "blocks": 1, "seeds": range(4), "progress": False}
    lost = dl.knock_out(portraits, "a", sampling_steps=1, **given)
    moved = 0.1 / world.attributes["eye_open"].range
    assert lost.table()[0, 0] == pytest.approx(moved) and lost.intervals()[0, 0] == pytest.approx(
        [moved, moved]
    )
    assert repr(lost).endswith("2 of 4 readings are of attributes that cannot be seen: they do not count.")


def test_a_refused_pair_is_told_the_words_of_the_world(portraits, monkeypatch):
    world = portraits.world
    monkeypatch.setattr(type(world), "measure", lambda self, images: [facts(world, hat="none")] * len(images))
    with pytest.raises(SettingError, match="hat is 'none' in the image of 'a hat'") as caught:
        dl.patch(portraits, "a hat", "no hat", measure="hat", seeds=[0], sampling_steps=1)
    values = range(len(world.attributes["hat"].values))
    assert all(repr(world.phrase("hat", value)) in str(caught.value) for value in values)


def test_one_item_has_no_interval(portraits):
    found = dl.patch(
        portraits, CLEAN, CORRUPT, measure=spot, steps=2, seeds=[3], sampling_steps=2, controls=False
    )
    assert np.isnan(found.intervals()).all() and np.isfinite(found.table()).all()
    assert (
        "one item: no interval, guidance 1" in repr(found)
        and "–" in repr(found)
        and " to " not in repr(found)
    )
    figure = found.plot()
    assert "one item: no interval" in figure.get_suptitle()
    assert not any(" to " in text or "nan" in text for ax in figure.axes for text in written(ax))
    lost = dl.knock_out(
        portraits, CLEAN, measure="smile", how="zero", seeds=[3], sampling_steps=2, progress=False
    )
    assert np.isnan(lost.intervals()).all() and "(–)" in repr(lost) and "one item: no interval" in repr(lost)
    assert lost.plot().get_suptitle() == "Knocking out a block: smile, one item: no interval"
    assert lost.plot("zero").get_suptitle().startswith("Knocking out a block by zero: smile")


@pytest.mark.parametrize("call", [dl.patch, dl.knock_out])
def test_the_same_seed_twice_is_refused(portraits, call):
    texts = [CLEAN, CORRUPT] if call is dl.patch else [[CLEAN, CORRUPT]]
    with pytest.raises(SettingError, match="seeds has 4 more than once"):
        call(portraits, *texts, measure=spot, seeds=[4, 1, 4], sampling_steps=1)


def test_the_same_prompt_twice_is_refused(portraits):
    with pytest.raises(SettingError, match=f"prompts has {CLEAN} more than once"):
        dl.knock_out(portraits, [CLEAN, CLEAN], measure=spot, seeds=[4], sampling_steps=1)


def test_knocking_out_says_how_many_images_it_makes(portraits, monkeypatch):
    told = []

    def bar(name, shown):
        told.append((name, shown))
        return contextlib.nullcontext(lambda done, total: told.append((done, total)))

    monkeypatch.setattr(ablation, "progress_bar", bar)
    dl.knock_out(
        portraits, [CLEAN, CORRUPT], measure="smile", how=["zero", "bypass"], seeds=[3], sampling_steps=1,
        progress=False,
    )  # fmt: skip
    assert told == [("knock out, 8 images", False), (0, 8), (8, 8)]


def test_changed_rows_and_unrelated_prompts(portraits):
    pair = Pair("a man with a big smile", "a man with a big frown", 0)
    row = dl.words(portraits, pair.clean, "smile")["tokenizer"]
    assert pair.changed_rows(portraits) == row
    world = portraits.world
    other = pair.unrelated(world, pair.corrupt)
    assert "smile" in world.wanted(pair.clean, other) and "smile" not in world.wanted(pair.corrupt, other)
    assert pair.unrelated(None, pair.corrupt) == ""


# --- knocking out ------------------------------------------------------------------------------------------


def test_knocking_out_is_as_by_hand(portraits):
    found = dl.knock_out(portraits, [CLEAN, "a man"], measure=spot, seeds=[3], sampling_steps=3)
    assert found.ways == ("bypass", "zero", "double", "mean", "resample")
    before = spot(portraits.sample([CLEAN, "a man"], [3, 3], steps=3, guidance=1.0))
    by_hand = {
        "bypass": {"joint.1.image.out": dl.bypass()},
        "zero": {"joint.1.text.v": dl.scale(0.0)},
        "double": {"joint.1.text.v": dl.scale(2.0)},
    }
    for way, changes in by_hand.items():
        with dl.intervene(portraits, changes):
            after = spot(portraits.sample([CLEAN, "a man"], [3, 3], steps=3, guidance=1.0))
        moved = (after - before).abs() / before.std(unbiased=False)
        assert found.effects[found.ways.index(way), 1, 0] == pytest.approx(moved.numpy(), rel=1e-2), way
    assert found.table().shape == (2, 5) and found.table("zero").shape == (2, 1)
    assert len(found.to_pandas()) == 10


def test_another_prompt_is_needed_to_resample(portraits):
    with pytest.raises(SettingError, match="two different prompts"):
        dl.knock_out(portraits, CLEAN, measure=spot, how="resample", seeds=[0, 1], sampling_steps=2)


def test_knocking_out_reads_all_attributes(portraits):
    found = dl.knock_out(portraits, how="bypass", blocks=[1], seeds=[0, 1], sampling_steps=2)
    assert found.names == tuple(portraits.world.attributes) and found.effects.shape == (1, 1, 18, 2)
    assert np.nanmin(found.effects) >= 0 and np.nanmax(found.effects) <= 1


# --- figures -----------------------------------------------------------------------------------------------


def written(ax) -> list[str]:
    return [text.get_text() for text in ax.texts]


def test_cells_say_their_numbers():
    table = np.array([[0.1, np.nan], [-0.001, 1.0]])
    figure = maps.plot_cells(table, ["0", "1"], ["a", "b"], title="smile", value="R²", caption="what to see")
    ax = figure.axes[0]
    assert written(ax) == ["0.10", "0.00", "1.00"] and ax.get_ylabel() == "block"
    assert [text.get_color() for text in ax.texts] == ["white", "white", "black"]
    assert figure.get_suptitle() == "smile" and figure.axes[1].get_ylabel() == "R²"
    with pytest.raises(SettingError, match="3 names of rows and 2 of columns"):
        maps.plot_cells(table, ["0", "1", "2"], ["a", "b"], title="", value="")


def test_few_rows_have_room_for_their_label():
    figure = maps.plot_cells(
        [[0.1, 0.9]], ["2"], ["a", "b"], title="", value="", row_label="block knocked out"
    )
    figure.draw_without_rendering()
    label = figure.axes[0].yaxis.label
    assert label.get_text() == "block\nknocked\nout"
    assert label.get_window_extent().y0 >= 0 and label.get_window_extent().y1 <= figure.bbox.height


@pytest.mark.parametrize(("count", "shown"), [(6, True), (7, False)])
def test_intervals_can_be_read_or_are_left_out(count, shown):
    """At a width of 600 pixels, 9 points are 8 pixels high."""
    table, ends = np.full((2, count), 0.5), np.tile([-0.25, 0.75], (2, count, 1))
    names = [str(k) for k in range(count)]
    figure = maps.plot_cells(table, ["0", "1"], names, title="smile", value="R²", intervals=ends)
    figure.draw_without_rendering()
    ax = figure.axes[0]
    assert ("-0.25 to 0.75" in written(ax)) == shown
    assert min(text.get_fontsize() for text in ax.texts) >= 9
    widest = max(text.get_window_extent().width for text in ax.texts)
    assert widest < 0.95 * ax.get_window_extent().width / count


def test_a_map_has_its_pictures_and_a_curve_its_controls(portraits):
    found = dl.patch(portraits, CLEAN, CORRUPT, measure=spot, steps=2, **FEW)
    figure = found.plot()
    assert [ax.get_title() for ax in figure.axes[:4]] == ["corrupt", "from 0", "from 1", "clean"]
    assert len(written(figure.axes[4])) == 8, "a number and an interval in each of four cells"
    assert "first 2" in figure.axes[4].get_xticklabels()[0].get_text()
    single = dl.patch(portraits, CLEAN, CORRUPT, measure=spot, steps=1, **FEW)
    lines = single.plot().axes[4].get_legend_handles_labels()[1]
    assert lines == ["sufficiency", "control: unrelated", "control: random"]
    with pytest.raises(SettingError, match="not 'necessity'"):
        single.table("necessity")


# --- the shipped model -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_portraits_read_the_smile_from_the_text_until_block_3():
    text = "a portrait of a young person with {}, light skin, clean shaven, red hair"
    found = dl.patch(
        dl.load("portraits"), text.format("a big smile"), text.format("a big frown"), measure="smile", steps=1,
        seeds=[0, 1],
    )  # fmt: skip
    share = found.table()[:, 0]
    assert share[:3].min() > 0.9 and share[4] < 0.2 and share[5] < 0.05
    assert 0.2 < share[3] < 0.8
    assert np.abs(found.controls["unrelated"].mean(-1)).max() < 0.15
    assert np.nanmax(found.drift) < 0.1
