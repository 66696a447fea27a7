"""Captions: what is written names exactly what is there, and what is read means exactly what is said."""

from __future__ import annotations

import contextlib
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ditlens.errors import CaptionError, UnknownAttributeError
from ditlens.worlds.portraits.attributes import (
    ATTRIBUTES,
    CATEGORICAL,
    NAMES,
    Categorical,
    Continuous,
    attribute,
    describe_values,
    neutral,
    sample,
    take,
    visible,
)
from ditlens.worlds.portraits.captions import (
    LONGEST_CAPTION,
    MAX_TOKENS,
    caption_all,
    compose,
    nameable,
    parse,
    vocabulary,
)
from ditlens.worlds.portraits.constraints import pick, satisfies
from ditlens.worlds.portraits.phrases import HAIR, PHRASES, SYNONYMS, count_tokens, normalise, tokens
from ditlens.worlds.portraits.questions import answer, question
from ditlens.worlds.portraits.reading import remarks as remarks_of

COUNT = 400
PORTRAITS = sample(COUNT, torch.Generator().manual_seed(11))
VOCABULARY = set(vocabulary())

quick = settings(derandomize=True, max_examples=60, deadline=None)
seeds = st.integers(0, 2**32)
levels = st.fixed_dictionaries({name: st.integers(0, len(PHRASES[name]) - 1) for name in NAMES})
subsets = st.sets(st.sampled_from(NAMES), min_size=1)


def exactly(named: dict[str, int]) -> dict[str, frozenset[int]]:
    return {name: frozenset({index}) for name, index in named.items()}


def named_level(spec: Continuous, value: float) -> int | None:
    """The level whose core holds a value; None in the gaps between cores."""
    level = spec.level_of(value)
    low, high = spec.levels[level].core(spec.low, spec.high)
    return level if low <= value <= high else None


def say(text: str) -> dict[str, set]:
    """Parse, with the names of categorical values instead of their indices."""
    out: dict[str, set] = {}
    for name, allowed in parse(text).items():
        spec = ATTRIBUTES[name]
        out[name] = {spec.values[i] if isinstance(spec, Categorical) else i for i in allowed}
    return out


# What is written is read back.


@quick
@given(levels, subsets, seeds)
def test_a_caption_is_read_back_exactly(all_levels, names, seed):
    named = {name: all_levels[name] for name in names}
    text = compose(named, random.Random(seed))
    assert parse(text) == exactly(named)
    assert normalise(text) == text
    assert count_tokens(text) == len(tokens(text)) <= LONGEST_CAPTION
    assert set(tokens(text)) <= VOCABULARY


@quick
@given(st.integers(0, COUNT - 1), subsets, seeds)
def test_captions_name_what_can_be_seen_and_is_clear(index, names, seed):
    (text,) = caption_all(take(PORTRAITS, index), random.Random(seed), names=sorted(names))
    seen = {name for name, mask in visible(PORTRAITS).items() if mask[index]}
    expected = {}
    for name in names & seen:
        value = PORTRAITS[name][index].item()
        spec = attribute(name)
        level = int(value) if isinstance(spec, Categorical) else named_level(spec, value)
        if level is not None:
            expected[name] = level
    if expected:
        assert parse(text) == exactly(expected)
    else:
        with pytest.raises(CaptionError):
            parse(text)


@quick
@given(levels)
def test_canonical_captions_are_read_back_and_need_no_randomness(all_levels):
    assert compose(all_levels) == compose(all_levels)
    assert parse(compose(all_levels)) == exactly(all_levels)


def test_every_generated_phrase_is_exact():
    for name, table in PHRASES.items():
        for index, phrases in enumerate(table):
            for phrase in phrases:
                assert parse(f"{phrase} hair" if name in HAIR else phrase) == {name: {index}}, phrase


def test_every_synonym_says_what_its_table_says():
    for name, entries in SYNONYMS.items():
        for allowed, phrases in entries.items():
            listed = allowed if isinstance(allowed, tuple) else (allowed,)
            for phrase in phrases.split(", "):
                assert say(phrase) == {name: set(listed)}, phrase


def test_no_two_phrases_of_the_attribute_table_are_the_same():
    phrases = [p for name, table in PHRASES.items() if name not in HAIR for words in table for p in words]
    assert len(phrases) == len(set(phrases))


def test_a_batch_is_described_like_its_portraits():
    one_by_one = [caption_all(take(PORTRAITS, i), canonical=True)[0] for i in range(20)]
    assert caption_all(take(PORTRAITS, slice(20)), canonical=True) == one_by_one
    again = [caption_all(PORTRAITS, random.Random(5)) for _ in range(2)]
    assert again[0] == again[1]


def test_nameable_agrees_with_the_attribute_table():
    boundaries = {"smile": -0.6, "age": 0.0, "skin_tone": 1.0, "hair_length": 0.25}
    for portraits in (neutral(1, **boundaries), PORTRAITS):
        for index, named in enumerate(nameable(portraits)):
            for name in ("smile", "age", "skin_tone", "hair_length"):
                expected = named_level(attribute(name), portraits[name][index].item())
                assert named.get(name) == expected


def test_captions_vary_in_length_order_and_style():
    texts = caption_all(PORTRAITS, random.Random(0))
    mentioned = [len(parse(text)) for text in texts]
    assert min(mentioned) <= 2
    assert max(mentioned) >= 14
    assert any(text.startswith("a portrait of") for text in texts)
    assert any(text.startswith("a face with") for text in texts)
    assert any(" and " in text for text in texts)
    assert any("wearing" in text for text in texts)
    assert len({compose({"smile": 4, "hat": 1}, random.Random(i)) for i in range(100)}) > 30


def test_drop_is_a_share():
    def mean(drop: float) -> float:
        return sum(len(parse(t)) for t in caption_all(PORTRAITS, random.Random(1), drop=drop)) / COUNT

    assert mean(0.9) < mean(0.35) < mean(0.0)


def test_no_text_is_too_long():
    rng = random.Random(3)
    longest = {name: len(table) - 1 for name, table in PHRASES.items()}
    for _ in range(1500):
        named = {name: rng.randint(0, longest[name]) for name in NAMES}
        assert len(tokens(compose(named, rng))) <= LONGEST_CAPTION < MAX_TOKENS
        assert len(tokens(compose(named))) <= LONGEST_CAPTION


def test_vocabulary_is_sorted_small_and_free_of_punctuation():
    words = vocabulary()
    assert words == sorted(set(words))
    assert len(words) < 220
    assert [word for word in words if not word.isalpha()] == [",", "?"]


# Examples, word by word.


@pytest.mark.parametrize(
    ("named", "text"),
    [
        ({"age": 2, "smile": 4, "glasses": 1}, "a portrait of an old person with a big smile, round glasses"),
        (
            {"hair_color": 3, "hair_length": 3, "hair_style": 1},
            "a portrait of a person with long wavy red hair",
        ),
        ({"hair_length": 0}, "a portrait of a person with very short hair"),
        ({"gaze": 0}, "a portrait of a person, looking left"),
        ({"age": 1}, "a portrait of a middle aged person"),
        ({"beard": 0}, "a portrait of a person, clean shaven"),
        ({}, "a portrait of a person"),
    ],
)
def test_canonical_captions(named, text):
    assert compose(named) == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("A smiling old woman with curly grey hair", {"smile": {3, 4}, "age": {2}, "hair_style": {"curly"},
                                                      "hair_color": {"grey"}}),
        ("big smile", {"smile": {4}}),
        ("They are smiling broadly.", {"smile": {4}}),
        ("frowning", {"smile": {0, 1}}),
        ("a smile", {"smile": {3, 4}}),
        ("not smiling", {"smile": {0, 1, 2}}),
        ("wearing round eyeglasses", {"glasses": {"round"}}),
        ("wearing glasses", {"glasses": {"round", "square"}}),
        ("without any glasses", {"glasses": {"none"}}),
        ("no glasses or earrings", {"glasses": {"none"}, "earrings": {"none"}}),
        ("no sunglasses", {"glasses": {"none", "round", "square"}}),
        ("wearing a cap", {"hat": {"cap"}}),
        ("a man with a beard, in a hat", {"beard": {1, 2, 3}, "hat": {"cap", "beanie", "crown"}}),
        ("bald", {"hair_length": {0}}),
        ("her hair is long, wavy and red, short beard", {"hair_length": {3}, "hair_style": {"wavy"},
                                                         "hair_color": {"red"}, "beard": {1, 2}}),
        ("red long hair", {"hair_length": {3}, "hair_color": {"red"}}),
        ("a red-haired, dark-skinned girl", {"hair_color": {"red"}, "skin_tone": {3}}),
        ("dark hair", {"hair_color": {"black", "brown"}}),
        ("dark red hair", {"hair_color": {"red"}}),
        ("a blonde with gray T-shirt and a golden crown", {"hair_color": {"blond"}, "hat": {"crown"}}),
        ("gray hair", {"hair_color": {"grey"}}),
        ("a RED silk shirt!", {"shirt": {"red"}}),
        ("The shirt is green; the background is orange", {"shirt": {"green"}, "background": {"orange"}}),
        ("Her eyes are closed and her mouth is wide open", {"eye_open": {0}, "mouth_open": {2}}),
        ("looking to the left", {"gaze": {0}}),
        ("looking old, looking left", {"age": {2}, "gaze": {0}}),
        ("her head leaning to the right", {"head_tilt": {2}}),
        ("shoulder-length hair", {"hair_length": {2}}),
        ("shoulder length hair", {"hair_length": {2}}),
        ("a clean-shaven, middle-aged man", {"beard": {0}, "age": {1}}),
        ("pearl earring", {"earrings": {"pearls"}}),
        ("a smile, a big smile", {"smile": {4}}),
        ("a red shirt and a red top", {"shirt": {"red"}}),
    ],
)  # fmt: skip
def test_what_people_type(text, said):
    assert say(text) == said


@pytest.mark.parametrize(
    ("raw", "normal"),
    [
        ("A  Big smile ,red HAIR.", "a big smile, red hair"),
        ("shoulder-length; gray\ncolour", "shoulder length, grey, color"),
        ("“Don't” ... the person's hat?", "dont, the person hat?"),
        (" ,, ", ""),
    ],
)
def test_normalise(raw, normal):
    assert normalise(raw) == normal


@quick
@given(st.text(max_size=60))
def test_normalise_is_idempotent_and_parse_never_fails_otherwise(text):
    assert normalise(normalise(text)) == normalise(text)
    with contextlib.suppress(CaptionError):
        parse(text)


# Errors.


def test_contradictions_are_named():
    with pytest.raises(CaptionError) as error:
        parse("a red shirt and a blue shirt")
    assert str(error.value) == (
        "The text says two things about the color of the shirt: 'red shirt' and 'blue shirt'. "
        "Keep one of them."
    )


def test_nothing_understood_says_what_can_be_described():
    with pytest.raises(CaptionError) as error:
        parse("a dog on a bicycle")
    message = str(error.value)
    assert message.startswith("Nothing in 'a dog on a bicycle' describes a portrait of this world.")
    assert "the hair color, the hair style, the glasses" in message
    assert "Write for example: 'a portrait of an old person with a big smile" in message
    example = message.split("for example: '")[1].rstrip("'.")
    assert len(parse(example)) == 5


@pytest.mark.parametrize(
    ("text", "remarks"),
    [
        ("a smiling old woman with curly grey hair", []),
        ("a portrait of a man, wearing a cap", []),
        ("a man", []),
        ("", []),
        ("a big smile, riding a bicycle", ["This world has no 'riding' and no 'bicycle'"]),
        (
            "a cat on a bicycle",
            ["Nothing in 'a cat on a bicycle' describes a portrait of this world. A caption can name "],
        ),
        ("a red shirt and a blue shirt", ["The text says two things about the color of the shirt"]),
    ],
)
def test_words_that_no_portrait_has_are_named(text, remarks):
    found = remarks_of(text)
    assert len(found) == len(remarks)
    assert all(said.startswith(start) for said, start in zip(found, remarks, strict=True))


def test_unknown_names_are_refused():
    with pytest.raises(UnknownAttributeError, match="no attribute 'nose'"):
        caption_all(PORTRAITS, names=["nose"])


# Constraints.


def test_satisfies_tells_each_attribute():
    values = describe_values(neutral(1, smile=0.9, hat="cap"))
    assert satisfies(values, parse("a smile, a crown, no glasses")) == {
        "smile": True,
        "hat": False,
        "glasses": True,
    }


@pytest.mark.parametrize(
    ("text", "level"),
    [("a smile", 4), ("a frown", 0), ("not smiling", 2), ("a beard", 2), ("a hat", 1), ("open mouth", 2)],
)
def test_pick_settles_what_a_text_leaves_open(text, level):
    ((name, allowed),) = parse(text).items()
    assert pick(name, allowed) == level


# Questions.


@pytest.mark.parametrize("name", NAMES)
def test_answers_are_understood(name):
    assert question(name).endswith("?")
    assert normalise(question(name)) == question(name)
    assert set(tokens(question(name))) <= VOCABULARY
    for index in range(20):
        values = describe_values(PORTRAITS, index)
        text = answer(values, name)
        assert set(tokens(text)) <= VOCABULARY
        if text != "hidden":
            assert parse(text) == {name: {attribute(name).level_of(values[name])}}


def test_questions_and_answers():
    assert question("glasses") == "what glasses does the person wear?"
    values = describe_values(neutral(1, glasses="sunglasses", hair_color="red", age=0.9))
    assert answer(values, "glasses") == "sunglasses"
    assert answer(values, "hair_color") == "red hair"
    assert answer(values, "age") == "old"
    assert answer(values, "gaze") == "hidden"


def test_color_words_of_the_table_are_its_values():
    for spec in CATEGORICAL:
        if spec.name in ("shirt", "background"):
            for value, words in zip(spec.values, spec.words, strict=True):
                assert all(value in phrase.split() for phrase in words)
