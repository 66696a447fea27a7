"""Instructions: every request means one exact edit, and pairs of captions differ in that edit only."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ditlens.errors import CaptionError, UnknownAttributeError
from ditlens.worlds.portraits.attributes import (
    ATTRIBUTES,
    NAMES,
    Categorical,
    describe_values,
    neutral,
    sample,
    take,
    visible,
)
from ditlens.worlds.portraits.captions import (
    MAX_TOKENS,
    caption_all,
    compose,
    parse,
    vocabulary,
)
from ditlens.worlds.portraits.constraints import pick, satisfies
from ditlens.worlds.portraits.edits import EDIT_TEMPLATES, WHOM, write
from ditlens.worlds.portraits.instructions import (
    instruction,
    parse_instruction,
    target_caption,
)
from ditlens.worlds.portraits.pairs import PhraseSpan
from ditlens.worlds.portraits.phrases import PHRASES, normalise, tokens

COUNT = 400
PORTRAITS = sample(COUNT, torch.Generator().manual_seed(12))
VOCABULARY = set(vocabulary())

quick = settings(derandomize=True, max_examples=80, deadline=None)
portraits = st.integers(0, COUNT - 1)
seeds = st.integers(0, 2**32)


def ask(text: str, **values: float | str) -> dict[str, set]:
    """Parse an instruction for a neutral portrait with some values set; categories by name."""
    out: dict[str, set] = {}
    for name, allowed in parse_instruction(text, describe_values(neutral(1, **values))).items():
        spec = ATTRIBUTES[name]
        out[name] = {spec.values[i] if isinstance(spec, Categorical) else i for i in allowed}
    return out


# Generated instructions.


@pytest.mark.parametrize("name", NAMES)
def test_every_template_asks_for_exactly_its_change(name):
    rng = random.Random(0)
    indices = range(len(PHRASES[name]))
    for source, target in ((s, t) for s in indices for t in indices if s != t):
        fitting = [edit for edit in EDIT_TEMPLATES[name] if edit.fits(name, source, target)]
        assert fitting, (name, source, target)
        for edit in fitting:
            for whom in (*WHOM, *WHOM):
                text = write(edit, name, source, target, whom, rng.choice)
                parsed = parse_instruction(text, {name: ATTRIBUTES[name].value_of(source)})
                assert set(parsed) == {name}, text
                assert pick(name, parsed[name]) == target, text
                assert (len(parsed[name]) > 1) == bool(edit.open), text
                assert source not in parsed[name], text


@quick
@given(portraits, seeds, st.integers(1, 3))
def test_instructions_are_understood(index, seed, count):
    asked = instruction(PORTRAITS, index, random.Random(seed), count=count)
    parsed = parse_instruction(asked.text, describe_values(PORTRAITS, index))
    assert {name: pick(name, allowed) for name, allowed in parsed.items()} == asked.changes
    assert len(asked.changes) == count
    assert normalise(asked.text) == asked.text
    assert set(tokens(asked.text)) <= VOCABULARY
    assert len(tokens(asked.text)) <= MAX_TOKENS


@quick
@given(portraits, seeds, st.integers(1, 4))
def test_edits_change_something_that_is_seen_before_and_after(index, seed, count):
    asked = instruction(PORTRAITS, index, random.Random(seed), count=count)
    source = describe_values(PORTRAITS, index)
    target = {name: ATTRIBUTES[name].value_of(level) for name, level in asked.changes.items()}
    after = visible(neutral(1, **{**source, **target}))
    for name, level in asked.changes.items():
        assert ATTRIBUTES[name].level_of(source[name]) != level == ATTRIBUTES[name].level_of(target[name])
        assert visible(PORTRAITS)[name][index]
        assert after[name]


def test_names_choose_the_attributes():
    bare = neutral(1)
    assert set(instruction(bare, 0, random.Random(0), names=["hat", "age"]).changes) == {"hat", "age"}
    shaded = neutral(1, glasses="sunglasses")
    assert instruction(shaded, 0, random.Random(0), names=["gaze", "age"]).changes.keys() == {"age"}
    with pytest.raises(CaptionError, match="the gaze cannot be seen in this portrait. Pass other names"):
        instruction(shaded, 0, names=["gaze"])
    with pytest.raises(UnknownAttributeError, match="no attribute 'nose'"):
        instruction(bare, 0, names=["nose"])


def test_instructions_are_reproducible():
    first, second = (instruction(PORTRAITS, 3, random.Random(9), count=3) for _ in range(2))
    assert first == second


# What people type.


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("make the smile a frown and remove the glasses", {"smile": {0, 1}, "glasses": {"none"}}),
        ("add glasses", {"glasses": {"round", "square"}}),
        ("Give her round glasses, please!", {"glasses": {"round"}}),
        ("swap the glasses for sunglasses", {"glasses": {"sunglasses"}}),
        ("swap the glasses for square glasses", {"glasses": {"square"}}),
        ("replace the cap with a crown", {"hat": {"crown"}}),
        ("a crown instead of the cap", {"hat": {"crown"}}),
        ("remove the hat and the glasses", {"hat": {"none"}, "glasses": {"none"}}),
        ("take the hat off and put on sunglasses", {"hat": {"none"}, "glasses": {"sunglasses"}}),
        ("remove the hat, bigger smile", {"hat": {"none"}, "smile": {3}}),
        ("get rid of the earrings", {"earrings": {"none"}}),
        ("make him smile", {"smile": {3, 4}}),
        ("stop smiling", {"smile": {2}}),
        ("make him not smile", {"smile": {0, 1, 2}}),
        ("shave the beard", {"beard": {0}}),
        ("grow a long beard", {"beard": {3}}),
        ("dye her hair pink", {"hair_color": {"pink"}}),
        ("turn her brown hair blonde", {"hair_color": {"blond"}}),
        ("change the hair from red to black", {"hair_color": {"black"}}),
        ("make her hair long and curly", {"hair_length": {3}, "hair_style": {"curly"}}),
        ("make the hair longer and red", {"hair_length": {2}, "hair_color": {"red"}}),
        ("curly hair please", {"hair_style": {"curly"}}),
        ("change the background to green", {"background": {"green"}}),
        ("make the shirt red and the background green", {"shirt": {"red"}, "background": {"green"}}),
        ("change the red shirt to blue", {"shirt": {"blue"}}),
        ("swap the red shirt for a yellow one", {"shirt": {"yellow"}}),
        ("turn the head left", {"head_tilt": {0}}),
        ("let them look to the right", {"gaze": {2}}),
        ("open the mouth wide", {"mouth_open": {2}}),
        ("close the mouth", {"mouth_open": {0}}),
        ("make him look old", {"age": {2}}),
    ],
)
def test_absolute_requests(text, asked):
    assert ask(text) == asked


@pytest.mark.parametrize(
    ("text", "source", "asked"),
    [
        ("bigger smile", {"smile": 0.4}, {"smile": {4}}),
        ("make the smile bigger", {"smile": 0.0}, {"smile": {3}}),
        ("make the smile much bigger", {"smile": 0.0}, {"smile": {4}}),
        ("make the smile bigger", {"smile": 0.9}, {"smile": {4}}),
        ("older", {"age": 0.1}, {"age": {1}}),
        ("a bit older", {"age": 0.1}, {"age": {1}}),
        ("a lot older", {"age": 0.1}, {"age": {2}}),
        ("could you make her look a little younger?", {"age": 0.9}, {"age": {1}}),
        ("more beard", {"beard": 0.6}, {"beard": {3}}),
        ("make the skin darker", {"skin_tone": 0.3}, {"skin_tone": {2}}),
        ("much longer hair", {"hair_length": 0.1}, {"hair_length": {2}}),
        ("make the face wider", {"face_width": -1.0}, {"face_width": {1}}),
        (
            "make the eyes bigger and open the mouth wider",
            {"mouth_open": 0.4},
            {"eye_open": {2}, "mouth_open": {2}},
        ),
    ],
)
def test_relative_requests(text, source, asked):
    assert ask(text, **source) == asked


def test_the_source_may_be_a_caption_or_unknown():
    assert parse_instruction("bigger smile", parse("a smile")) == {"smile": {4}}
    assert parse_instruction("bigger smile", parse("a big frown")) == {"smile": {1}}
    assert parse_instruction("older") == {"age": {1}}


def test_requests_that_are_refused():
    with pytest.raises(CaptionError) as error:
        parse_instruction("paint a dog")
    message = str(error.value)
    assert message.startswith(
        "Nothing in 'paint a dog' is an edit of a portrait of this world: this world has no 'dog'."
    )
    assert "An instruction can change the smile or frown, the mouth, the eyes" in message
    assert message.endswith("Did you mean 'put on a crown' or 'add a beard'?")
    with pytest.raises(CaptionError, match="The color of the shirt cannot be removed, only changed"):
        parse_instruction("remove the red shirt")
    with pytest.raises(CaptionError, match="asks two different things of the hat. Keep one of them"):
        parse_instruction("add a cap, add a crown")


@quick
@given(st.lists(st.sampled_from(sorted(VOCABULARY)), max_size=12), seeds)
def test_any_mix_of_words_is_read_or_refused(words, seed):
    try:
        parsed = parse_instruction(" ".join(words), describe_values(PORTRAITS, seed % COUNT))
    except CaptionError:
        return
    assert all(allowed <= set(range(len(PHRASES[name]))) for name, allowed in parsed.items())


# Pairs of captions.


@quick
@given(portraits, seeds, st.integers(1, 3))
def test_pairs_differ_in_the_edit_only(index, seed, count):
    rng = random.Random(seed)
    (text,) = caption_all(take(PORTRAITS, index), rng)
    values = describe_values(PORTRAITS, index)
    changes = instruction(PORTRAITS, index, rng, count=count).changes
    pair = target_caption(text, changes, values=values)
    before, after = parse(pair.source_text), parse(pair.target_text)
    assert set(before) == set(after) == set(parse(text)) | set(changes)
    assert satisfies(values, before) == dict.fromkeys(before, True)
    for name in before:
        assert after[name] == ({changes[name]} if name in changes else before[name])
    source, target = tokens(pair.source_text), tokens(pair.target_text)
    assert len(source) == len(target) <= MAX_TOKENS
    assert set(source) | set(target) <= VOCABULARY
    assert {span.attribute for span in pair.changed_spans} == set(changes)
    changed = {i for span in pair.changed_spans for i in range(*span.source)}
    assert all(i in changed for i in range(len(source)) if source[i] != target[i])
    assert all(span.source == span.target for span in pair.changed_spans)
    assert normalise(pair.target_text) == pair.target_text


@pytest.mark.parametrize("style", [None, 3])
@pytest.mark.parametrize("name", NAMES)
def test_any_two_levels_have_phrases_of_equal_length(name, style):
    indices = range(len(PHRASES[name]))
    for source, target in ((s, t) for s in indices for t in indices if s != t):
        text = compose({"background": 0} | {name: source}, random.Random(style) if style else None)
        pair = target_caption(text, {name: target})
        assert len(tokens(pair.source_text)) == len(tokens(pair.target_text)), pair
        assert parse(pair.target_text)[name] == {target}


@pytest.mark.parametrize(
    ("text", "changes", "source", "target"),
    [
        (
            "a portrait of an old person with a big smile, round glasses",
            {"glasses": 0},
            "a portrait of an old person with a big smile, round glasses",
            "a portrait of an old person with a big smile, no glasses",
        ),
        (
            "A portrait of an old person with a huge smile",
            {"age": 0, "smile": 0},
            "a portrait of an old person with a huge smile",
            "a portrait of a young person with a huge frown",
        ),
        ("long wavy red hair", {"hair_color": 5}, "long wavy red hair", "long wavy pink hair"),
        ("red hair", {"hair_style": 2}, "red straight hair", "red curly hair"),
        ("very short hair", {"hair_length": 3}, "cropped hair", "flowing hair"),
        ("big smile, cap", {"smile": 1}, "big smile, cap", "slight frown, cap"),
        ("a cap", {"age": 2}, "a cap, looking young", "a cap, looking old"),
        ("a smiling man, no hat", {"smile": 0}, "a man, no hat, a big smile", "a man, no hat, a big frown"),
        ("the shirt is red", {"shirt": 1}, "the red shirt", "the blue shirt"),
        ("no hat or glasses", {"glasses": 1}, "no hat, no glasses", "no hat, round glasses"),
        ("wearing a cap", {"hat": 0}, "wearing a cap", "wearing no hat"),
    ],
)  # fmt: skip
def test_pairs_word_by_word(text, changes, source, target):
    pair = target_caption(text, changes)
    assert (pair.source_text, pair.target_text) == (source, target)


def test_spans_count_tokens():
    pair = target_caption("a portrait of an old person with a big smile, round glasses", {"glasses": 0})
    assert pair.changed_spans == [PhraseSpan("glasses", (11, 13), (11, 13))]
    assert tokens(pair.target_text)[11:13] == ["no", "glasses"]


def test_what_is_not_mentioned_is_inserted_with_its_value():
    values = describe_values(neutral(1, hat="crown"))
    pair = target_caption("a big smile", {"hat": 0}, values=values)
    assert pair[:2] == ("a big smile, a crown", "a big smile, no hat")


def test_nothing_to_change_leaves_the_caption_alone():
    assert target_caption("a big smile", parse_instruction("make her smile")) == (
        "a big smile",
        "a big smile",
        [],
    )


def test_pairs_from_values():
    pair = target_caption(describe_values(neutral(1, glasses="sunglasses")), {"glasses": 0})
    assert "dark shades" in pair.source_text
    assert "no glasses" in pair.target_text
    assert "looking" not in pair.source_text


def test_an_endless_instruction_is_refused_at_once():
    with pytest.raises(CaptionError, match="has 100,000 characters. Say what to change in 1000 or fewer"):
        parse_instruction("x" * 100_000, describe_values(neutral(1)))
