"""EMS edits of a portrait from end to end: exact ends, repeatable recipes, clear refusals."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import ditlens
from ditlens.describers import choice, huggingface
from ditlens.describers.replies import Reply
from ditlens.description import Description
from ditlens.ems.edit import edit
from ditlens.ems.methods import DDS, OdeEdit
from ditlens.ems.plan import EMS, EditSettings, default_method, make_plan
from ditlens.ems.sample import METHODS, method_from, method_named
from ditlens.errors import CaptionError, DescriberError, ImageError, ModelError, SettingError
from ditlens.images import to_image
from ditlens.models.encoders import choose, encoders_of, only
from ditlens.models.loading import load
from ditlens.models.model import Model
from ditlens.worlds.portraits.attributes import NAMES, neutral
from ditlens.worlds.portraits.describer import text_changes
from ditlens.worlds.portraits.instructions import parse_instruction, target_caption
from ditlens.worlds.portraits.render import render

QUICK = OdeEdit("quick", source_guidance=2.0, target_guidance=2.0, steps=4)
CAPTION = "a portrait of a young person with a slight smile, round glasses"
WISH = "make the smile bigger and remove the glasses"


class Typist:
    """A describer for tests: always sees `CAPTION`, and understands the grammar."""

    name = "typist"

    def describe(self, image: Image.Image) -> str:
        return CAPTION

    def extract(self, image: Image.Image, instruction: str) -> Description:
        from ditlens.worlds.portraits.captions import parse

        pair = target_caption(CAPTION, parse_instruction(instruction, source=parse(CAPTION)))
        changes = text_changes(pair.source_text, pair.target_text)
        return Description(pair.source_text, pair.target_text, changes, self.name)


@pytest.fixture(scope="module")
def portrait() -> Image.Image:
    return to_image(render(neutral(smile=0.4, glasses="round"), 128))


@pytest.fixture
def run(portraits, portrait):
    """Edit the portrait with quick settings; options override."""

    def call(instruction: str = WISH, **options):
        return edit(portraits, portrait, instruction, **{"describer": Typist(), "method": QUICK} | options)

    return call


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


# --- the ends of the degree --------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [QUICK, dataclasses.replace(EMS, steps=5), None])
def test_degree_0_is_exactly_the_reconstruction(run, portraits, portrait, method):
    result = run(degree=0.0, method=method)
    assert np.array_equal(result.image, result.reconstruction)
    assert torch.equal(result.latents, portraits.encode_image(portraits.prepare(portrait)))
    assert result.description.target != result.description.source, "there was something to do"


def test_degree_0_of_a_sweep_is_exactly_the_reconstruction(run):
    sweep = run().sweep([-1.0, 0.0, 0.5, 1.0, 1.5])
    assert np.array_equal(sweep.images[1], sweep.edits[1].reconstruction)


@pytest.mark.parametrize("name", METHODS)
def test_methods_keep_what_they_promise_at_degree_0(run, name):
    method = dataclasses.replace(METHODS[name], steps=3)
    result = run(degree=0.0, method=method, mask=None)
    if method.exact_at_0:
        assert np.array_equal(result.image, result.reconstruction) and result.warnings == []
    else:
        assert not np.array_equal(result.image, result.reconstruction)
        changed = abs(pixels(result.image) - pixels(result.reconstruction)).mean() > 255 * 0.03
        assert not changed or result.warnings[0].startswith("changed for nothing: degree 0")


def test_degree_1_and_an_explicit_target_agree(run, portraits, portrait):
    by_wish = run()
    by_text = edit(
        portraits, portrait, source_text=by_wish.source_text, target_text=by_wish.target_text, method=QUICK
    )
    assert np.array_equal(by_wish.image, by_text.image)
    assert by_text.description.changes == by_wish.description.changes == {
        "smile": "a big smile", "glasses": "no glasses",
    }  # fmt: skip
    assert by_text.description.describer == "by hand"


def test_the_degree_moves_the_picture_further_and_further(run):
    edits = run().sweep([0.0, 0.5, 1.0, 1.5, 2.0]).edits
    moved = [(e.latents - edits[0].latents).norm().item() for e in edits]
    assert moved == sorted(moved)
    assert moved[0] == 0 < moved[1]


def test_sweep_items_equal_single_edits(run):
    degrees = [-1.0, 0.5, 1.0, 1.5]
    sweep = run().sweep(degrees)
    assert sweep.degrees == [e.degree for e in sweep.edits] == degrees
    for degree, item in zip(degrees, sweep.edits, strict=True):
        single = run(degree=degree)
        torch.testing.assert_close(item.latents, single.latents, rtol=0, atol=1e-4)
        assert abs(pixels(item.image) - pixels(single.image)).max() <= 1
        assert item.evaluations == single.evaluations


def test_a_wish_that_is_already_true_changes_nothing(run):
    result = run("give them round glasses")
    assert result.targets == []
    assert np.array_equal(result.image, result.reconstruction)


# --- repeating ---------------------------------------------------------------------------------------------


def test_an_edit_says_what_it_did_and_whether_it_went_too_far(run):
    result = run("open the mouth a little")
    before = {**result.before, "mouth_open": 0.0, "hat": "none"}
    for value, warning in (
        (0.9, "more than asked: mouth open. Lower the degree below 1."),
        (0.05, "not reached: mouth open. Try a degree of 1.25, or another seed."),
    ):
        after = {**before, "mouth_open": value, "hat": "cap"}
        said = repr(
            dataclasses.replace(result, image=Image.new("RGB", (128, 128)), before=before, after=after)
        ).splitlines()
        assert f"mouth_open  0.00    ->  {value:.2f}" in said
        assert "hat         none    ->  cap    not asked for" in said
        assert said[-1] == f"warning: {warning}"
    thin = dataclasses.replace(result, image=result.reconstruction, before=before, after=before)
    assert "no visible change" in repr(thin)
    assert "no visible change" not in repr(dataclasses.replace(thin, after={**before, "mouth_open": 0.45}))
    assert repr(result.sweep([0, 1])).startswith("Sweep of 2 degrees: 0, 1\nmeasured ")


def test_the_same_seed_gives_the_same_edit(run):
    first, again, other = run(seed=3), run(seed=3), run(seed=4)
    assert np.array_equal(first.image, again.image)
    assert torch.equal(first.latents, again.latents)
    assert not torch.equal(first.latents, other.latents)


@pytest.mark.parametrize("options", [{}, {"method": DDS, "pooled": False, "degree": 0.7, "seed": 9}])
def test_the_recipe_in_the_png_repeats_the_edit(run, portraits, tmp_path, options):
    if "method" in options:
        options = options | {"method": dataclasses.replace(options["method"], steps=5)}
    result = run(**options)
    folder = result.save(tmp_path / "new" / "folder")
    with Image.open(folder / "edit.png") as image:
        recipe = json.loads(image.text["ditlens"])
        assert np.array_equal(image, result.image), "PNG keeps every pixel"
    assert recipe["ditlens"] == ditlens.__version__
    again = edit(
        portraits, result.source_image, recipe["instruction"], degree=recipe["degree"], seed=recipe["seed"],
        source_text=recipe["source_text"], target_text=recipe["target_text"], tokens=recipe["tokens"],
        pooled=recipe["pooled"], method=method_from(recipe["method"]),
    )  # fmt: skip
    assert np.array_equal(again.image, result.image)


def test_the_json_holds_texts_measurements_and_recipe(run, tmp_path):
    result = run(degree=0.5)
    facts = json.loads((result.save(tmp_path) / "edit.json").read_text("utf-8"))
    assert facts["source_text"] == CAPTION
    assert facts["target_text"] == CAPTION.replace("slight", "big").replace("round", "no")
    assert facts["targets"] == ["smile", "glasses"]
    assert facts["before"] == result.before
    assert facts["after"] == result.after
    assert tuple(facts["before"]) == NAMES
    assert facts["drift"] == result.drift
    assert facts["recipe"]["degree"] == 0.5
    assert facts["recipe"]["describer"] == "typist"
    assert facts["recipe"]["model"] == str(result.recipe["model"])
    alike = {"changed": [["slight", "big"], ["round", "no"]], "share": 1.0}
    assert facts["alignment"] == {"clip": alike, "clip_2": alike}
    assert result.description.alignment["clip_2"].aligned and "changed: slight -> big" in str(
        result.description
    )


def test_a_mask_that_was_given_is_saved_and_repeats_the_edit(run, tmp_path):
    soft = torch.rand(128, 128, generator=torch.Generator().manual_seed(0)) * (torch.arange(128) > 60)
    result = run(mask=soft)
    folder = result.save(tmp_path)
    recipe = json.loads((folder / "edit.json").read_text("utf-8"))["recipe"]
    written = (folder / recipe["mask_file"]).read_bytes()
    assert recipe["mask"] == "given" and recipe["mask_sha256"] == hashlib.sha256(written).hexdigest()
    again = run(mask=folder / recipe["mask_file"])
    assert np.array_equal(again.image, result.image) and again.recipe == result.recipe
    assert "mask_file" not in run(mask="difference").recipe
    assert not (run(mask=None).save(tmp_path / "other") / "mask.png").exists()


@pytest.mark.parametrize("given", [str, Path, Image.open, lambda path: path.open("rb")])
def test_what_an_edit_was_made_from_is_never_overwritten(portraits, portrait, tmp_path, monkeypatch, given):
    """Neither by its name nor through a link, and also when the working folder is another by then."""
    portrait.save(tmp_path / "edit.png")
    before = (tmp_path / "edit.png").read_bytes()
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "edit.png").symlink_to(tmp_path / "edit.png")
    monkeypatch.chdir(tmp_path)
    result = edit(portraits, given(Path("edit.png")), WISH, describer=Typist(), method=QUICK)
    monkeypatch.chdir("/")
    for save in (
        lambda: result.save(tmp_path),
        lambda: result.save(tmp_path / "linked"),
        lambda: result.sweep([0]).save(tmp_path / "edit.png"),
    ):
        with pytest.raises(
            SettingError, match="edit.png is what this was made from: it is never overwritten"
        ):
            save()
    assert (tmp_path / "edit.png").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["edit.png", "linked"]
    assert (result.save(tmp_path / "other") / "edit.png").is_file()


def test_a_mask_that_was_read_is_never_overwritten(run, tmp_path):
    Image.new("L", (128, 128), 255).save(tmp_path / "mask.png")
    before = (tmp_path / "mask.png").read_bytes()
    with pytest.raises(SettingError, match="mask.png is what this was made from"):
        run(mask=tmp_path / "mask.png").save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mask.png"]
    assert (tmp_path / "mask.png").read_bytes() == before


def test_paths_of_an_edit_as_people_give_them(run, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    result = run()
    assert result.save("~/a") == tmp_path / "a"
    assert result.save(f"file://{tmp_path}/b%20c") == tmp_path / "b c"
    result.sweep([0]).save("'~/strip'")
    assert {path.name for path in tmp_path.rglob("*.*")} == {"edit.png", "edit.json", "strip.png"}
    with pytest.raises(SettingError, match="strip.bmp must end in one of .png"):
        result.sweep([0]).save("~/strip.bmp")


def test_the_command_tells_machines_the_warnings(run, tmp_path):
    from ditlens.cli.commands import facts

    result = run(WISH, degree=0.01)
    assert facts(result, tmp_path)["warnings"] == result.warnings != []


# --- what an edit tells ------------------------------------------------------------------------------------


def test_measurements_are_the_oracles(run, portraits):
    result = run()
    assert result.before == portraits.world.measure(portraits.prepare(result.source_image))[0]
    read = portraits.world.measure(portraits.decode(result.latents))[0]
    for name, value in result.after.items():
        assert value == (read[name] if isinstance(value, str) else pytest.approx(read[name], abs=1e-3))
    assert 0 <= result.drift <= 1


def test_evaluations_are_counted(run):
    assert run().evaluations == 4 * 4, "4 steps: source and target, each with and without text"
    assert (
        run(method=dataclasses.replace(QUICK, source_guidance=1.0, target_guidance=1.0)).evaluations == 4 * 2
    )


def test_progress_is_shown_and_can_stop_the_edit(run):
    steps: list[int] = []
    run(on_step=lambda state: steps.append(state.step))
    assert steps == [0, 1, 2, 3]

    class StopError(Exception):
        pass

    def stop(state):
        steps.append(state.step)
        raise StopError

    with pytest.raises(StopError):
        run(on_step=stop)
    assert steps == [0, 1, 2, 3, 0]


def test_routes_of_the_text_can_be_switched_off(run):
    both, tokens, neither = run(), run(pooled=False), run(tokens=False, pooled=False)
    assert np.array_equal(neither.image, neither.reconstruction)
    assert not torch.equal(both.latents, tokens.latents)


def test_a_target_outside_the_grammar_changes_what_the_instruction_says(portraits):
    """Else everything that was asked for would count as drift."""
    image = portraits.generate("young person, no hat", seed=0, steps=2)
    free = make_plan(portraits, image, "add a crown", EditSettings(target_text="a coronation in oils"))
    assert free.description.changes == {"hat": "a crown"}
    worded = make_plan(portraits, image, "add a crown", EditSettings(target_text="young person, a beanie"))
    assert worded.description.changes["hat"] == "a beanie"


def test_text_encoders_can_be_moved_one_by_one(run, portraits):
    whole, first, second = run(), run(encoders={"clip"}), run(encoders=1)
    assert first.recipe["encoders"] == ["clip"] and second.recipe["encoders"] == ["clip_2"]
    assert whole.recipe["encoders"] is None
    moved, source = first.plan.moved(1.0), first.plan.source
    half = source.tokens.shape[-1] // 2
    assert torch.equal(moved.tokens[..., half:], source.tokens[..., half:])
    assert torch.equal(moved.tokens[..., :half], whole.plan.moved(1.0).tokens[..., :half])
    assert not torch.equal(first.latents, whole.latents) and not torch.equal(first.latents, second.latents)
    assert torch.equal(run(encoders={0, 1}).latents, whole.latents)
    wishes = {"make the smile bigger": 0.5, "remove the glasses": 1.0}
    several = run(wishes, encoders={"clip_2"}).plan.moved(1.0)
    assert torch.equal(several.tokens[..., :half], source.tokens[..., :half])
    assert torch.equal(several.tokens[..., half:], run(wishes).plan.moved(1.0).tokens[..., half:])
    zero = run(degree=0.0, encoders={"clip"})
    assert np.array_equal(zero.image, zero.reconstruction)
    for wrong, message in (
        ({"t5"}, r"no text encoder 't5'. Choose from: 0 \(clip\), 1 \(clip_2\)"),
        ((), "empty"),
    ):
        with pytest.raises(SettingError, match=message):
            run(encoders=wrong)


@torch.no_grad()
def test_encoders_write_where_the_pipeline_lets_them(portraits):
    source, target = portraits.encode_text(CAPTION), portraits.encode_text("a portrait of an old person")
    texts = ([*source.prompts], [*target.prompts])
    for k, name in enumerate(e.name for e in encoders_of(portraits)):
        prompts = [texts[int(k == i)] for i in range(3)]
        tokens, _, pooled, _ = portraits.pipe.encode_prompt(
            *prompts, do_classifier_free_guidance=False, device=portraits.device, max_sequence_length=0
        )
        moved = only(source, target, choose(portraits, {name}))
        torch.testing.assert_close(moved.tokens, tokens, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(moved.pooled, pooled, atol=1e-5, rtol=1e-4)
        assert not torch.equal(moved.tokens, source.tokens) and not torch.equal(moved.tokens, target.tokens)


def test_a_source_by_hand_and_its_target_by_the_grammar(run):
    by_hand = "a portrait of an old person with a slight smile, round glasses"
    result = run("make the smile bigger", source_text=by_hand)
    assert result.source_text == by_hand and result.target_text == by_hand.replace("slight", "big")
    assert result.description.describer == "by hand, then the grammar" and result.targets == ["smile"]
    several = run({"make the smile bigger": 0.5, "remove the glasses": 1.0}, source_text=by_hand)
    assert several.recipe["target_texts"] == [
        by_hand.replace("slight", "big"),
        by_hand.replace("round", "no"),
    ]
    with pytest.raises(CaptionError):
        run(source_text="a cat")


def test_texts_by_hand_that_would_be_ignored_are_refused(run, portraits, portrait):
    smile, bare = "make the smile bigger", "remove the glasses"
    with pytest.raises(SettingError, match="degrees of the instructions would do nothing. Pass degree="):
        run({smile: 0.5}, source_text=CAPTION, target_text="old person")
    with pytest.raises(SettingError, match="each of the 2 instructions needs its own"):
        run({smile: 0.5, bare: 1.0}, target_text="old person")
    assert run({smile: 0.5}, target_text="old person").plan.targets[0][1] == 0.5
    with pytest.raises(SettingError, match="source_text= alone is not enough.*target_text="):
        edit(Model(portraits.pipe, "mine"), portrait, WISH, describer=Typist(), source_text="a cat")
    with pytest.raises(SettingError, match="texts that describe its own image"):
        run(target_text="a portrait of an old person").apply(portrait)


def test_a_describer_that_is_named_is_made_once_and_remembers(portraits, portrait, monkeypatch):
    asked = []

    def reply(self, image, messages):
        asked.append(self)
        return Reply(json.dumps({"source": "a man, no hat", "target": f"a man, red hat {len(asked)}"}))

    monkeypatch.setattr(huggingface.HuggingFace, "reply", reply)
    choice._on_this_computer.cache_clear()
    model, wishes = Model(portraits.pipe, "mine"), {"red hat": 0.5, "a large hat": 1.0}
    edit(model, portrait, wishes, describer="org/name", method=QUICK)
    assert len(asked) == 3 and len(set(asked)) == 1, "both wishes together, and each alone"
    edit(model, portrait, wishes, describer="org/name", method=QUICK, seed=1)
    assert len(asked) == 3, "the answers are remembered"
    choice._on_this_computer.cache_clear()


def test_one_text_by_hand(run):
    result = run(target_text="a portrait of an old person")
    assert result.source_text == CAPTION
    assert result.target_text == "a portrait of an old person"
    assert result.description.describer == "typist, then by hand"


def test_the_sweep_measures_and_draws(run, tmp_path):
    sweep = run().sweep([0, 1])
    assert sweep.values("smile") == [e.after["smile"] for e in sweep.edits]
    sweep.save(tmp_path / "sweep.png")
    with Image.open(tmp_path / "sweep.png") as image:
        assert image.size == sweep.strip().size


def test_the_models_own_method_comes_first(portraits, portraits_folder):
    assert default_method(portraits) == EMS
    model = Model(portraits.pipe)
    model.defaults["edit"] = {"kind": "ode", "name": "own", "steps": 3}
    assert default_method(model) == OdeEdit("own", steps=3)


def test_a_method_by_name_fits_the_latents(run):
    assert [method_named("dds", size=(side, side)).lr for side in (64, 128, 16, 8)] == [
        0.0488,
        0.0122,
        0.7812,
        1.0,
    ]
    assert method_named("csds-recon-delta", size=(128, 128)).lr == 0.0122
    assert method_named("flowedit") == METHODS["flowedit"] == method_named("flowedit", size=(16, 16))
    assert run(degree=0.0, method="hsds-recon").recipe["method"]["lr"] == 0.7812, "16 x 16 latents"


# --- pictures ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "picture",
    [
        Image.new("RGB", (1, 1), "red"),
        Image.new("RGBA", (300, 40), (0, 0, 0, 0)),
        Image.new("L", (128, 128), 9),
        Image.new("CMYK", (50, 60)),
        torch.rand(3, 128, 128),
    ],
    ids=["1x1", "transparent", "grey", "cmyk", "tensor"],
)
def test_any_picture_can_be_edited(portraits, picture):
    result = edit(portraits, picture, WISH, describer=Typist(), method=QUICK)
    assert result.image.size == result.source_image.size == result.reconstruction.size == (128, 128)


def test_a_file_that_is_no_picture(portraits, tmp_path):
    (tmp_path / "a.png").write_text("text")
    with pytest.raises(ImageError, match="is not an image"):
        edit(portraits, tmp_path / "a.png", WISH, describer=Typist())


# --- refusals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("degree", [-2.01, 3.5, float("nan"), float("inf")])
def test_degrees_out_of_range(run, degree):
    with pytest.raises(
        SettingError, match=r"degree .* is outside \[-2, 3\]: 0 changes nothing, 1 is the full"
    ):
        run(degree=degree)


def test_sweeps_check_their_degrees(run):
    result = run()
    with pytest.raises(SettingError, match=r"degree 4 is outside"):
        result.sweep([0, 4])
    with pytest.raises(SettingError, match="at least one degree"):
        result.sweep([])


@pytest.mark.parametrize("wish", ["make it nice", "remove the skin"])
def test_wishes_that_are_not_understood(run, wish):
    with pytest.raises(CaptionError):
        run(wish)


def test_an_incomplete_describer_says_what_to_do(portraits_folder, portrait, tmp_path):
    folder = tmp_path / "incomplete"
    shutil.copytree(portraits_folder, folder)
    (folder / "describer").mkdir()
    with pytest.raises(ModelError, match="No describer in .*source_text= and target_text="):
        edit(load(folder, device="cpu"), portrait, WISH)


def test_without_a_describer_the_oracle_describes(portraits):
    assert portraits.describer.name == "oracle and grammar"


def test_a_model_without_world_needs_both_texts(portraits, portrait):
    model = Model(portraits.pipe, "mine")
    with pytest.raises(DescriberError, match="mine has no describer of its own. Pass describer="):
        edit(model, portrait, WISH)
    result = edit(model, portrait, source_text="a cat", target_text="a dog", method=QUICK)
    assert (result.before, result.after, result.drift, result.targets) == (None, None, None, [])
    with pytest.raises(SettingError, match="Nothing was measured"):
        result.sweep([0]).values("smile")


def test_an_empty_description_is_refused(portraits, portrait):
    class Silent(Typist):
        def extract(self, image, instruction):
            return Description("", " ", {}, self.name)

    with pytest.raises(DescriberError, match="typist returned an empty text"):
        edit(portraits, portrait, WISH, describer=Silent())


# --- step by step, back again, elsewhere ---------------------------------------------------------------------


def test_step_by_step_gives_the_same_edit(run, portraits, portrait):
    whole = run(degree=0.8)
    steps = ditlens.edit_steps(
        portraits, portrait, WISH, degree=0.8, describer=Typist(), method=QUICK, mask="auto"
    )
    states = list(steps)
    assert [state.step for state in states] == [0, 1, 2, 3] and {state.steps for state in states} == {4}
    assert np.array_equal(steps.result.image, whole.image) and steps.result is steps.result
    assert all(state.preview.size == whole.image.size for state in states)
    assert np.array_equal(states[-1].preview, whole.image), "the last estimate is the result"
    again = [state.latents for state in whole.iter()]
    assert torch.equal(again[-1], states[-1].latents)
    further = whole.iter(degree=1.5).result
    assert further.degree == 1.5 and not np.array_equal(further.image, whole.image)


def test_a_cancelled_edit_stops_within_a_step_and_keeps_its_state(run):
    steps = run().iter()
    seen = 0
    for state in steps:
        seen += 1
        if state.step == 1:
            steps.cancel()
    assert seen == 2 and steps.state is not None and steps.state.step == 1
    with pytest.raises(SettingError, match=r"cancelled after 2 steps.*edit.iter"):
        _ = steps.result


@pytest.mark.parametrize("degree", [1.0, 0.5, -1.0])
def test_reverse_goes_from_the_result_towards_the_source(run, degree):
    there = run(degree=degree, method=None)
    back = there.reverse()
    assert (back.source_text, back.target_text) == (there.target_text, there.source_text)
    assert np.array_equal(back.source_image, there.image), "it starts from the result"
    first = (there.latents - there.plan.latents).norm()
    assert (back.latents - there.plan.latents).norm() < 0.7 * first
    assert np.array_equal(there.reverse(0.0).image, there.reverse(0.0).reconstruction)
    assert torch.equal(back.plan.source.tokens, there.plan.moved(degree).tokens)
    assert back.description.describer == f"typist, reversed from degree {degree:g}"


def test_apply_does_the_same_to_another_picture(run, portraits):
    other = to_image(render(neutral(smile=0.4, glasses="round", skin_tone=0.9), 128))
    done = run(degree=0.7).apply(other)
    direct = edit(portraits, other, WISH, degree=0.7, describer=Typist(), method=QUICK)
    assert np.array_equal(done.image, direct.image) and done.recipe == direct.recipe
    by_texts = run(instruction="", source_text=CAPTION, target_text=CAPTION + ", blue shirt", describer=None)
    with pytest.raises(SettingError, match="texts that describe its own image"):
        by_texts.apply(other)


def test_several_wishes_each_with_its_degree(run):
    smile, bare = "make the smile bigger", "remove the glasses"
    both = run({smile: 0.5, bare: 1.0})
    assert set(both.targets) == {"smile", "glasses"} and both.recipe["instructions"] == {
        smile: 0.5,
        bare: 1.0,
    }
    moved = both.plan.moved(1.0)
    source, parts = both.plan.source, [run(wish).plan.targets[0][0] for wish in (smile, bare)]
    expected = source.tokens + 0.5 * (parts[0].tokens - source.tokens) + (parts[1].tokens - source.tokens)
    torch.testing.assert_close(moved.tokens, expected)
    assert np.array_equal(run({smile: 0.0, bare: 0.0}).image, both.reconstruction)
    for wishes, message in (
        ("", "instruction is empty"),
        ({}, "There is no instruction"),
        ({smile: 9.0}, "outside"),
    ):
        with pytest.raises(SettingError, match=message):
            run(wishes)


# --- where it may change -------------------------------------------------------------------------------------


def test_a_mask_confines_the_edit(run):
    half = np.zeros((128, 128), np.uint8)
    half[64:] = 255
    confined = run(mask=half)
    still = (confined.latents - confined.plan.latents).abs().amax(1)[0]
    assert still[:8].max() == 0 < still[8:].max()
    assert confined.recipe["mask"] == "given" and confined.evaluations == run(mask=None).evaluations


def test_a_mask_of_the_picture_is_cut_like_the_picture(portraits):
    wide, mask = Image.new("RGB", (300, 100), "white"), np.zeros((100, 300), bool)
    mask[:, 125:150] = True  # a quarter of the middle square, from its first quarter on
    options = {"describer": Typist(), "method": QUICK, "degree": 0.0}
    result = edit(portraits, wide, WISH, mask=mask, **options)
    assert result.mask[0, 0].sum(0).tolist() == [0] * 4 + [16] * 4 + [0] * 8
    again = edit(portraits, wide, WISH, mask=result.mask, **options)
    assert torch.equal(again.mask, result.mask), "a mask of the latents stays"
    with pytest.raises(SettingError, match="cannot be told where it lies"):
        edit(portraits, wide, WISH, mask=np.ones((100, 200)), **options)


def test_two_changes_in_one_text_have_two_masks(run):
    source = "a young person, a red shirt"
    both, old, blue = (
        run("", source_text=source, target_text=target, mask="difference")
        for target in (
            "an old person, a blue shirt",
            "an old person, a red shirt",
            "a young person, a blue shirt",
        )
    )
    assert torch.allclose(both.mask, torch.maximum(old.mask, blue.mask), atol=1e-4)


def test_auto_is_the_models_own_mask(run, portraits, monkeypatch):
    monkeypatch.setitem(portraits.defaults, "mask", "difference")
    auto, named = run(), run(mask="difference")
    assert auto.recipe["mask"] == "difference" and np.array_equal(auto.image, named.image)
    assert auto.evaluations == run(mask="none").evaluations + 12, (
        "four noises, three texts: source, two changes"
    )
    monkeypatch.delitem(portraits.defaults, "mask")
    assert run().mask is None


@pytest.mark.parametrize("mask", ["difference", "exact", "none"])
def test_degree_0_is_exact_under_every_mask(run, mask):
    kept = run(degree=0.0, mask=mask)
    assert np.array_equal(kept.image, kept.reconstruction)


# --- what has no effect, and what the model does not know ----------------------------------------------------


def remarks(model, **given):
    quick = OdeEdit("quick", steps=1)
    return edit(model, Image.new("RGB", (128, 128), "red"), method=quick, mask=None, **given).warnings


def test_what_is_not_used_is_said(portraits):
    texts = {"source_text": "a red shirt", "target_text": "a blue shirt"}
    both = remarks(portraits, instruction="add a crown", **texts)
    assert both[0].startswith("not used: the instruction 'add a crown', because both texts were given. Leave")
    who = remarks(portraits, instruction="add a crown", source_text="no hat", describer="own")
    assert who[0].startswith(
        "not used: describer=, because source_text= says what the image shows. Leave one"
    )
    for given in (
        texts,
        {"instruction": "add a crown", "source_text": "no hat"},
        {"instruction": "add a crown"},
    ):
        assert not any("not used" in remark for remark in remarks(portraits, **given))


def test_an_image_that_the_model_does_not_know_points_to_the_check(portraits):
    found = remarks(portraits, source_text="a red shirt", target_text="a blue shirt")[0]
    assert found.startswith("this image is outside what the")
    assert found.endswith("Ask before an edit: ditlens.check_image(model, image), ditlens check IMAGE.")
