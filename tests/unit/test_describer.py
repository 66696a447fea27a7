"""The describer: its texts, the grammar's last word, files that stock classes open, and its training."""

from __future__ import annotations

import json
import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ditlens.description import Description
from ditlens.ems.extract import extract
from ditlens.errors import CaptionError, DescriberError, ModelError
from ditlens.images import to_image
from ditlens.train import data
from ditlens.train import describer as recipe
from ditlens.train.loop import Budget
from ditlens.worlds.portraits import captions, phrases
from ditlens.worlds.portraits.attributes import neutral, sample
from ditlens.worlds.portraits.describer import (
    DESCRIBE,
    SIZE,
    PortraitDescriber,
    change_indices,
    in_own_words,
    prompt_ids,
    reconcile,
    text_changes,
)
from ditlens.worlds.portraits.measure import reached
from ditlens.worlds.portraits.questions import HIDDEN, question
from ditlens.worlds.portraits.render import render

SOURCE = "old person, slight smile, short red hair, no glasses, blue shirt"


class Scripted(PortraitDescriber):
    """A describer whose network writes what it is told to."""

    def __init__(self, script: dict[str, str]) -> None:
        self.script, self.prompts = script, []

    def write(self, pictures: torch.Tensor, prompts: list[str]) -> list[str]:
        assert len(pictures) == len(prompts)
        self.prompts += prompts
        return [self.script.get(p, HIDDEN) if p.endswith("?") else self.script[p] for p in prompts]


def run(instruction: str, written: str, source: str = SOURCE, **answers: str) -> Description:
    script = {DESCRIBE: source, instruction: written}
    script |= {question(name): text for name, text in answers.items()}
    return extract(torch.zeros(3, SIZE, SIZE), instruction, Scripted(script))


# --- texts -------------------------------------------------------------------------------------------------


def test_keywords_say_all_that_can_be_named_and_nothing_else():
    attributes = sample(200, torch.Generator().manual_seed(5))
    for named in captions.nameable(attributes):
        text = captions.keywords(named)
        assert captions.parse(text) == {name: frozenset({index}) for name, index in named.items()}
        assert phrases.normalise(text) == text
    assert captions.keywords({"hair_color": 3, "age": 2, "smile": 4}) == "old person, big smile, red hair"


def test_changes_between_two_texts():
    target = "old person, big smile, short red hair, round glasses, blue shirt"
    assert change_indices(SOURCE, target) == {"smile": 4, "glasses": 1}
    assert text_changes(SOURCE, target) == {"smile": "a big smile", "glasses": "round glasses"}
    assert text_changes(SOURCE, SOURCE.replace("red", "pink")) == {"hair_color": "pink hair"}
    values = {"smile": 0.9, "glasses": "round"}
    assert reached(values, change_indices(SOURCE, target)) == {"smile": True, "glasses": True}


@pytest.mark.parametrize(
    ("source", "target", "changes"),
    [
        (SOURCE, SOURCE, {}),
        ("a person with a big smile", "a smiling person", {}),  # already so
        ("a smiling person", "a person with a slight smile", {"smile": 3}),  # more exact
        ("a photo of somebody", "a photo of somebody with a crown", {"hat": 3}),
        ("a person with a crown", "a photo of somebody", {}),  # left out is not changed
        ("a cat", "a dog", {}),
        ("", "", {}),
        (SOURCE, "a big smile, a big frown", {}),  # contradicts itself
    ],
)
def test_changes_of_texts_by_hand(source, target, changes):
    assert change_indices(source, target) == changes
    assert text_changes(source, target).keys() == changes.keys()


# --- extract -----------------------------------------------------------------------------------------------


def test_the_network_is_followed_where_it_does_as_it_was_told():
    made = run("make the smile bigger", SOURCE.replace("slight", "big"))
    assert made.source == SOURCE
    assert made.target == SOURCE.replace("slight", "big")
    assert made.changes == {"smile": "a big smile"}
    assert made.describer == "portraits describer"


def test_the_network_chooses_where_the_instruction_leaves_a_choice():
    made = run("add glasses", SOURCE.replace("no glasses", "square glasses"))
    assert made.changes == {"glasses": "square glasses"}
    assert run("add glasses", SOURCE).changes == {"glasses": "round glasses"}  # the grammar's choice


@pytest.mark.parametrize(
    "written",
    [
        SOURCE,  # nothing done
        SOURCE.replace("slight smile", "big frown"),  # the wrong thing
        SOURCE.replace("slight", "big").replace("red", "pink"),  # more than was asked for
        "big smile, big frown",
        "the the the",
        "",
    ],
)
def test_the_grammar_has_the_last_word(written):
    made = run("make the smile bigger", written)
    assert made.target == SOURCE.replace("slight", "big")
    assert made.changes == {"smile": "a big smile"}


@pytest.mark.parametrize(
    ("wish", "asked"),
    [
        ("dye the hair pink", "dye the hair pink"),
        ("make him young, dye the hair pink", "make him young, dye the hair pink"),
        ("take ten years off", "make them middle aged"),
        ("make her a queen and cheer her up a lot", "put on a crown and make them smile broadly"),
        ("pop some specs on her", "add glasses"),  # the choice is left to the network
    ],
)
def test_the_network_is_asked_in_its_own_words(wish, asked):
    assert in_own_words(wish, captions.parse(SOURCE)) == asked


def test_several_changes_at_once():
    made = run("make him young and dye the hair pink", "gibberish")
    assert made.target == SOURCE.replace("old", "young").replace("red", "pink")
    assert made.changes == {"age": "young", "hair_color": "pink hair"}


def test_what_the_source_does_not_say_is_asked_and_inserted():
    made = run("make the brows angrier", "gibberish", brow_tilt="worried brows")
    assert made.source == SOURCE + ", worried brows"
    assert made.target == SOURCE + ", level brows"
    assert made.changes == {"brow_tilt": "level brows"}


def test_only_what_the_instruction_concerns_is_asked_about():
    describer = Scripted({DESCRIBE: SOURCE, "dye the hair pink": ""})
    extract(torch.zeros(3, SIZE, SIZE), "dye the hair pink", describer)
    assert describer.prompts == [DESCRIBE, "dye the hair pink"]


def test_an_answer_of_no_use_means_the_neutral_level():
    made = run("make the brows angrier", "gibberish", brow_tilt="hidden")
    assert (made.source, made.target) == (SOURCE + ", level brows", SOURCE + ", angry brows")


def test_what_is_already_so_stays():
    made = run("give him short hair", SOURCE)
    assert (made.target, made.changes) == (made.source, {})


def test_instructions_outside_the_world_are_refused_before_the_network_is_asked():
    describer = Scripted({DESCRIBE: SOURCE})
    with pytest.raises(CaptionError, match="Did you mean 'add a beard' or 'add a hat'"):
        describer.extract(to_image(torch.zeros(3, 40, 60)), "add a dog")
    assert describer.prompts == [DESCRIBE]


def test_a_picture_that_cannot_be_described():
    with pytest.raises(DescriberError, match="source_text="):
        run("make the smile bigger", "", source="hidden hidden")


def test_long_descriptions_are_shortened():
    named = {"age": 1, "smile": 2, "mouth_open": 1, "eye_open": 2, "brow_tilt": 0, "gaze": 1, "hair_length": 2,
             "hair_style": 0, "hair_color": 0, "face_width": 0, "skin_tone": 0, "beard": 0, "head_tilt": 0,
             "glasses": 0, "hat": 1, "earrings": 0, "shirt": 0, "background": 0}  # fmt: skip
    describer = Scripted({DESCRIBE: captions.keywords(named)})
    text = describer.describe(torch.zeros(3, 64, 64))
    assert (
        len(phrases.tokens(captions.keywords(named))) > captions.LONGEST_CAPTION >= len(phrases.tokens(text))
    )
    assert captions.parse(text) == captions.parse(captions.keywords(named))


def test_reconcile_keeps_a_caption_by_hand_word_for_word():
    pair = reconcile("a smiling old lady who wears a crown", "remove the crown", "")
    assert pair.source_text == "a smiling old lady who wears a crown"
    assert text_changes(pair.source_text, pair.target_text) == {"hat": "no hat"}


def test_questions_end_with_a_question_mark():
    describer = Scripted({"what color is the hair?": "red hair"})
    assert describer.answer(torch.zeros(1, 3, SIZE, SIZE), "What colour is the hair") == "red hair"


# --- the network and its files -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny() -> PortraitDescriber:
    torch.manual_seed(0)
    processor = recipe.build_processor()
    return PortraitDescriber(recipe.build_model(processor.tokenizer, 32, 32, 64, 1), processor)


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("describer")
    tiny.save(path)
    return path


def test_every_word_is_one_token_and_others_are_spelt(tiny):
    tokenizer = tiny.processor.tokenizer
    assert [w for w in captions.vocabulary() if len(tokenizer(w).input_ids) != 1] == []
    text = "is she looking left? no, a shoulder length hat"
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert tokenizer("Zoë").tokens() == ["z", "##o", "##e"]
    assert tokenizer.unk_token_id not in tokenizer("an extraordinary t-shirt, please!").input_ids[:-1]


def test_a_saved_describer_writes_the_same(tiny, folder):
    loaded = PortraitDescriber.load(folder)
    pictures = torch.rand(3, 3, 60, 90, generator=torch.Generator().manual_seed(1))
    prompts = [DESCRIBE, "give him a crown", DESCRIBE]
    assert next(loaded.model.parameters()).dtype == torch.float32
    assert loaded.write(pictures, prompts) == tiny.write(pictures, prompts)
    alone = [loaded.write(p[None], [prompt])[0] for p, prompt in zip(pictures, prompts, strict=True)]
    assert alone == loaded.write(pictures, prompts)


def test_stock_classes_open_it_and_see_the_same_picture(tiny, folder):
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    processor = AutoProcessor.from_pretrained(folder)
    assert model.dtype == torch.float32
    picture = (torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2)) * 255).round() / 255
    content = [{"type": "image", "image": to_image(picture)}, {"type": "text", "text": DESCRIBE}]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=True, return_dict=True, return_tensors="pt"
    )
    assert inputs["input_ids"][0].tolist() == prompt_ids(processor.tokenizer, DESCRIBE, recipe.IMAGE_TOKENS)
    assert torch.allclose(inputs["pixel_values"], picture * 2 - 1, atol=1e-5)
    written = model.generate(**inputs, max_new_tokens=8, do_sample=False)
    text = processor.decode(written[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert tiny.write(picture, [DESCRIBE])[0].startswith(phrases.normalise(text))


def test_full_size_fits_and_is_half_precision(folder):
    from safetensors.torch import load_file

    processor = recipe.build_processor()
    model = recipe.build_model(processor.tokenizer)
    assert 2 * sum(p.numel() for p in model.parameters()) < 11e6  # bytes
    weights = load_file(folder / "model.safetensors")
    assert {w.dtype for name, w in weights.items() if "batch_norm" not in name} == {torch.float16}
    assert json.loads((folder / "config.json").read_text())["dtype"] == "float32"


def test_loading_says_what_to_type(folder, tmp_path):
    with pytest.raises(ModelError, match="ditlens train describer"):
        PortraitDescriber.load(tmp_path / "nothing")
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(ModelError, match="cannot be read"):
        PortraitDescriber.load(tmp_path)


# --- training ----------------------------------------------------------------------------------------------


def test_tasks_say_what_is_true():
    attributes = sample(60, torch.Generator().manual_seed(3))
    named, rng, kinds = captions.nameable(attributes), random.Random(0), set()
    for i in range(60):
        prompt, answer = recipe.task(attributes, i, named[i], rng)
        if prompt == DESCRIBE:
            kinds.add("describe")
            assert answer == captions.keywords(named[i])
        elif prompt.endswith("?"):
            kinds.add("ask")
            assert answer
        else:
            kinds.add("edit")
            wanted = captions.parse(answer)
            changed = [n for n, index in named[i].items() if wanted[n] != {index}]
            assert changed or wanted.keys() - named[i].keys()
    assert kinds == set(recipe.TASKS)


def test_only_answers_are_learnt(tiny):
    tokenizer = tiny.processor.tokenizer
    ids, labels = recipe.encode(tokenizer, [(DESCRIBE, "big smile"), ("how old is the person?", "old")])
    learnt = [tokenizer.decode(row[row != -100]) for row in labels]
    assert learnt == ["big smile <end>", "old <end>"]
    assert torch.equal(ids[labels != -100], labels[labels != -100])


def test_text_loss_is_that_of_the_stock_class(tiny):
    ids, labels = recipe.encode(
        tiny.processor.tokenizer, [(DESCRIBE, "big smile"), ("give him a hat", "cap")]
    )
    pixels = torch.rand(2, 3, SIZE, SIZE) * 2 - 1
    with torch.no_grad():
        features = tiny.model.model.vision_tower(pixels).last_hidden_state
        ours = recipe.text_loss(tiny.model, features, ids, labels)
        stock = tiny.model(input_ids=ids, pixel_values=pixels, labels=labels).loss
    assert ours.item() == pytest.approx(stock.item(), rel=1e-4)


def test_texts_can_be_learnt():
    torch.manual_seed(1)
    tokenizer = recipe.build_processor().tokenizer
    model = recipe.build_model(tokenizer, 32, 32, 64, 1)
    pixels = torch.stack([torch.full((3, SIZE, SIZE), value) for value in (-1.0, 1.0)])
    ids, labels = recipe.encode(tokenizer, [(DESCRIBE, "black hair"), (DESCRIBE, "grey hair, a cap")])
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(40):
        loss = recipe.text_loss(model, model.model.vision_tower(pixels).last_hidden_state, ids, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.3


def test_reconstructions_are_bytes_and_repeatable(tmp_path, monkeypatch):
    drawn = np.full((30, 3, SIZE, SIZE), 128, np.uint8)
    monkeypatch.setattr(data, "renders", lambda budget: drawn)
    monkeypatch.setattr(recipe, "DECODED", {"cpu": 26})
    vae = SimpleNamespace(
        config=SimpleNamespace(scaling_factor=2.0, shift_factor=0.0),
        encode=lambda image: SimpleNamespace(latent_dist=SimpleNamespace(mode=lambda: image)),
        decode=lambda z: SimpleNamespace(sample=z),
    )
    budget = Budget(1, tmp_path)
    decoded = recipe.reconstructions(vae, budget)
    assert decoded.shape == (26, 3, SIZE, SIZE)
    assert decoded.dtype == torch.uint8
    assert abs(decoded.float().mean() - 128) < 1
    assert torch.equal(decoded, recipe.reconstructions(vae, budget))


def test_training_goes_on_where_it_stopped(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(data, "PART", 24)
    monkeypatch.setattr(data, "COUNT", {"cpu": 24})
    monkeypatch.setattr(recipe, "BATCH", {"cpu": 8})
    monkeypatch.setattr(recipe, "TOWER", 32)
    build, judge = recipe.build_model, recipe.evaluate
    monkeypatch.setattr(recipe, "build_model", lambda tokenizer: build(tokenizer, 32, 32, 64, 1))
    monkeypatch.setattr(recipe, "evaluate", lambda describer: judge(describer, 4))
    monkeypatch.setattr(recipe, "NORM_BATCHES", 2)
    drawn = (render(data.part_attributes(0), SIZE) * 255).round().to(torch.uint8).numpy()
    monkeypatch.setattr(data, "renders", lambda budget: np.asarray(drawn))

    _, _, report = recipe.train(Budget(0.05, tmp_path))
    assert report["steps"] > 0
    assert 0 < report["text"] < 10  # an untrained network: the logarithm of the vocabulary's size, 5.6
    assert report["nameable"] > 10
    model, processor, again = recipe.train(Budget(0.05, tmp_path, resume=True))
    assert again["steps"] == report["steps"]
    assert again["eyes/steps"] == report["eyes/steps"]
    assert "resumed" in capsys.readouterr().err
    picture = render(neutral(1), SIZE)
    assert len(PortraitDescriber(model, processor).describe_all(picture)) == 1  # after 3 s it may say nothing


def test_the_oracle_describes_where_no_describer_is_trained(monkeypatch):
    from ditlens import images
    from ditlens.worlds.portraits.attributes import neutral
    from ditlens.worlds.portraits.describer import OracleDescriber
    from ditlens.worlds.portraits.oracle import Oracle

    oracle = Oracle()
    monkeypatch.setattr(oracle, "read", lambda _: neutral(1, smile=0.4, glasses="round", beard=0.0))
    describer = OracleDescriber(oracle)
    picture = images.to_image(torch.zeros(3, 128, 128))
    assert "slight smile" in describer.describe(picture)
    monkeypatch.setattr(
        oracle,
        "read",
        lambda _: neutral(1, smile=0.22, glasses="sunglasses", gaze=-1.0, hat="cap", hair_length=0.1),
    )
    assert "smile" not in captions.parse(describer.describe(picture)), "between two levels"
    monkeypatch.setattr(oracle, "read", lambda _: neutral(1, smile=0.4, glasses="round", beard=0.0))
    description = describer.extract(picture, "make the smile bigger and remove the glasses")
    assert set(description.changes) == {"smile", "glasses"}
    assert description.changes["smile"] == "a big smile"
