"""The words of the portraits world: one spelling rule, and tables of what a caption may say.

Two kinds of tables:

- `PHRASES`: what captions *generate* for a level of an attribute, always exact;
- `SYNONYMS`: what a person may type as well; some leave several levels open ("a smile").

Text is normalised by `normalise` before it is parsed or tokenised.
"""

from __future__ import annotations

import re
from typing import TypeAlias

from ditlens.worlds.portraits.attributes import ATTRIBUTES, Categorical

Constraints: TypeAlias = dict[str, frozenset[int]]
"""What a text says: for each attribute that it names, the indices of the levels or values it allows."""

SPELLINGS = {
    "gray": "grey",
    "blonde": "blond",
    "colour": "color",
    "eyeglasses": "glasses",
    "spectacles": "glasses",
    "specs": "glasses",
    "tee": "shirt",
}

ARTICLES = frozenset({"a", "an", "the"})


def tokens(text: str) -> list[str]:
    """Split a text into its tokens: words, commas and question marks.

    The rule: lower case; "'s" and quotes go; a hyphen is a space ("shoulder length"); `SPELLINGS` are
    unified; other punctuation becomes a comma; commas are neither repeated nor at an end. A CLIP tokenizer
    that has learnt the vocabulary cuts a normalised text at the same places.

    Args:
        text: Any text.

    Returns:
        The tokens, in order.
    """
    text = re.sub(r"['’]s\b|['’\"“”`]", "", text.lower())
    text = re.sub(r"[-_‐‑–—]", " ", text)
    found: list[str] = []
    for token in re.findall(r"[^\W_]+|[^\w\s]|\n", text):
        token = SPELLINGS.get(token, token)
        if not (token[0].isalnum() or token == "?"):
            token = ","
        if token != "," or (found and found[-1] not in ",?"):
            found.append(token)
    return found[:-1] if found[-1:] == [","] else found


def join(words: list[str]) -> str:
    """Write tokens as a text: one space between words, none before a comma or a question mark."""
    return re.sub(r" ([,?])", r"\1", " ".join(words))


def normalise(text: str) -> str:
    """Bring a text into the form in which captions are generated, parsed and tokenised.

    See `tokens` for the rule. Generated texts are already in this form.

    Example:
        >>> normalise("A person with Shoulder-length hair; gray eyeglasses!")
        'a person with shoulder length hair, grey glasses'
    """
    return join(tokens(text))


def count_tokens(text: str) -> int:
    """Number of tokens of a normalised text; faster than `tokens`."""
    return text.count(" ") + 1 + text.count(",")


def article(word: str) -> str:
    """The indefinite article that `word` takes."""
    return "an" if word[0] in "aeiou" else "a"


def without_article(phrase: str) -> str:
    """Drop the leading "a" or "an" of a phrase."""
    first, _, rest = phrase.partition(" ")
    return rest if first in ARTICLES else phrase


_NOUNS = {
    "smile": "smile or frown",
    "mouth_open": "mouth",
    "eye_open": "eyes",
    "brow_tilt": "eyebrows",
    "face_width": "width of the face",
    "head_tilt": "tilt of the head",
    "shirt": "color of the shirt",
    "background": "color of the background",
}


def noun(name: str) -> str:
    """An attribute as a noun for messages: ``"hair_color"`` is "the hair color"."""
    return "the " + _NOUNS.get(name, name.replace("_", " "))


HAIR = ("hair_length", "hair_style", "hair_color")
"""Named in one phrase: "long wavy red hair". Their phrases are adjectives, like those of age."""

EXTRA: dict[str, dict[int, tuple[str, ...]]] = {
    "smile": {
        0: ("frowning deeply",),
        1: ("frowning slightly",),
        3: ("smiling slightly",),
        4: ("a broad smile", "smiling broadly"),
    },
    "mouth_open": {2: ("a gaping mouth",)},
    "eye_open": {2: ("wide eyes",)},
    "gaze": {1: ("looking ahead",)},
    "hair_length": {2: ("medium",)},
    "skin_tone": {4: ("ebony skin",)},
    "beard": {0: ("a shaved chin",), 1: ("a stubbly chin",)},
}
"""Additional exact phrases. With them, any two levels of an attribute have phrases with the same number of tokens,
which keeps source and target captions aligned."""


def _phrases(name: str) -> tuple[tuple[str, ...], ...]:
    spec = ATTRIBUTES[name]
    table = spec.words if isinstance(spec, Categorical) else tuple(level.words for level in spec.levels)
    more = EXTRA.get(name, {})
    return tuple(tuple(map(normalise, words + more.get(i, ()))) for i, words in enumerate(table))


PHRASES: dict[str, tuple[tuple[str, ...], ...]] = {name: _phrases(name) for name in ATTRIBUTES}
"""For each attribute and level (or value): the phrases that captions generate, the canonical one first."""

BARE: dict[str, tuple[tuple[str, ...], ...]] = {
    name: tuple(tuple(without_article(p) for p in phrases) for phrases in table)
    for name, table in PHRASES.items()
}
"""The same without articles, for captions in the style of a list of keywords."""


def phrase(attribute: str, level: int) -> str:
    """How captions name a level or value: its canonical phrase."""
    return PHRASES[attribute][level][0] + (" hair" if attribute in HAIR else "")


WEARABLE = frozenset({"glasses", "hat", "earrings", "shirt"})
"""What a person may be "wearing"."""

NOT_AFTER_WITH = frozenset(
    {"bareheaded", "clean", "frowning", "glancing", "looking", "smiling", "wearing", "without"}
)
"""First words of the phrases that cannot follow "with": "a person with looking left" is not English."""


def is_noun_phrase(phrase: str) -> bool:
    """Whether a phrase can follow "with"."""
    return phrase.partition(" ")[0] not in NOT_AFTER_WITH


Table: TypeAlias = dict[str, dict[int | str | tuple[int | str, ...], str]]
"""Attribute -> the levels or values that a phrase allows -> these phrases, separated by commas."""

# Phrases that captions do not use, but people may type. Plurals, spellings, articles and "the mouth is open" for
# "open mouth" need no entry: see `STEMS` and `reading`.
SYNONYMS: Table = {
    "smile": {
        (3, 4): "smile, happy, cheerful, happy smile",
        4: "very happy, wide smile, large smile, grin",
        3: "faint smile, subtle smile",
        (0, 1): "frown, sad, unhappy",
        0: "very sad, deep frown",
        1: "slightly sad",
        2: "neutral, serious",
    },
    "mouth_open": {(1, 2): "open mouth, mouth open", 0: "mouth closed", 1: "parted mouth, half open mouth"},
    "eye_open": {
        (1, 2): "open eyes",
        0: "closed eyes, eyes closed, small eyes, squinting",
        2: "big eyes, large eyes, round eyes",
    },
    "brow_tilt": {0: "worried, concerned", 1: "neutral brows", 2: "angry, furious"},
    "gaze": {
        1: "looking straight, looking forward, looking at the camera, looking at viewer",
        0: "eyes left",
        2: "eyes right",
    },
    "hair_length": {0: "bald, no hair, buzz cut, shaved head"},
    "face_width": {0: "thin face, slender face", 1: "normal face"},
    "skin_tone": {(0, 1): "white skin", 2: "olive skin", 4: "black skin"},
    "age": {0: "very young, child, kid, teenager", (1, 2): "older", 2: "very old, aged, senior"},
    "beard": {
        (1, 2, 3): "beard, bearded",
        (1, 2): "short beard",
        3: "big beard, very long beard",
        1: "unshaven, stubbly",
        0: "beardless, shaven, shaved",
    },
    "head_tilt": {0: "head left, tilted left", 2: "head right, tilted right", 1: "head straight"},
    "hair_color": {"red": "redhead", "blond": "blond", "brown": "brunette"},
    "hair_style": {"curly": "curls"},
    "glasses": {("round", "square"): "glasses", "sunglasses": "shades, dark glasses"},
    "hat": {
        ("cap", "beanie", "crown"): "hat",
        "cap": "baseball hat",
        "beanie": "woolen hat, wool hat, knitted hat",
    },
    "earrings": {("pearls", "hoops"): "earrings", "hoops": "hoops"},
    "shirt": {"purple": "violet shirt"},
}

HAIR_SYNONYMS: Table = {
    "hair_length": {3: "very long", 0: "buzzed"},
    "hair_color": {
        ("black", "brown"): "dark",
        "red": "auburn, orange",
        "blond": "fair, yellow",
        "grey": "white",
    },
    "hair_style": {"straight": "smooth"},
}
"""The same for adjectives that need the noun "hair"."""

SHADES = ("dark", "light", "bright")
"""Ignored before the name of a hair color: "dark red hair" is red hair."""

STEMS = {
    "brows": "brow", "eyebrow": "brow", "eyebrows": "brow", "eyes": "eye", "lips": "lip",
    "gazing": "looking", "look": "looking", "looks": "looking", "glances": "glancing", "glance": "glancing",
    "smiling": "smile", "smiles": "smile", "frowning": "frown", "frowns": "frown", "grinning": "grin",
    "slightly": "slight", "deeply": "deep", "broadly": "broad", "widely": "wide", "haired": "hair",
    "skinned": "skin", "complexion": "skin", "faced": "face", "eyed": "eye", "browed": "brow",
    "hats": "hat", "headwear": "hat", "backdrop": "background", "wall": "background",
    "top": "shirt", "tshirt": "shirt", "sweater": "shirt", "jumper": "shirt", "blouse": "shirt",
    "are": "is", "not": "no", "without": "no", "isnt": "no", "arent": "no", "dont": "no", "doesnt": "no",
    "nor": "or", "shut": "close", "golden": "gold", "tilt": "tilted", "tilting": "tilted",
    "leaning": "tilted", "lean": "tilted", "leans": "tilted", "tilts": "tilted", "kids": "kid",
    "pearls": "pearl", "earring": "earrings", "hoop": "hoops", "beards": "beard",
}  # fmt: skip
"""Words that count as the same when a text is read (not when one is written)."""

PEOPLE = frozenset(
    {"person", "people", "man", "woman", "boy", "girl", "guy", "lady", "gentleman", "human", "face", "adult"}
)
"""Words for who is in the image."""
