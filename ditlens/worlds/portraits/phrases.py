"""The words of the portraits world: one spelling rule, and tables of what a caption may say.

Two kinds of tables:

- `PHRASES`: what captions *generate* for a level of an attribute, always exact;
- `SYNONYMS`: what a person may type besides; some leave several levels open ("a smile").

Text is normalised by one rule, `normalise`, before it is parsed or tokenised.
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
    """Bring a text into the one form in which captions are generated, parsed and tokenised.

    See `tokens` for the rule. Generated texts are already in this form.

    Example:
        >>> normalise("A person with Shoulder-length hair; gray eyeglasses!")
        'a person with shoulder length hair, grey glasses'
    """
    return join(tokens(text))


def count_tokens(text: str) -> int:
    """Number of tokens of a generated caption: faster than splitting it."""
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
"""Named in one phrase: "long wavy red hair". Their phrases are adjectives, as is age's."""

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
"""More exact phrases than the attribute table has. With them, any two levels of an attribute have a pair of
phrases with the same number of tokens, which is what keeps source and target captions aligned."""


def _phrases(name: str) -> tuple[tuple[str, ...], ...]:
    spec = ATTRIBUTES[name]
    table = spec.words if isinstance(spec, Categorical) else tuple(level.words for level in spec.levels)
    more = EXTRA.get(name, {})
    return tuple(tuple(map(normalise, words + more.get(i, ()))) for i, words in enumerate(table))


PHRASES: dict[str, tuple[tuple[str, ...], ...]] = {name: _phrases(name) for name in ATTRIBUTES}
"""For each attribute and level (or value): the phrases that captions generate, the canonical one first."""

BARE = {
    name: tuple(tuple(without_article(p) for p in phrases) for phrases in table)
    for name, table in PHRASES.items()
}
"""The same without articles, for captions in the style of a list of keywords."""

WEARABLE = frozenset({"glasses", "hat", "earrings", "shirt"})
"""What one may be "wearing"."""

NOT_AFTER_WITH = frozenset(
    {"bareheaded", "clean", "frowning", "glancing", "looking", "smiling", "wearing", "without"}
)
"""First words of the phrases that are no nouns: "a person with looking left" is not English."""


def is_noun_phrase(phrase: str) -> bool:
    """Whether a phrase can stand after "with"."""
    return phrase.partition(" ")[0] not in NOT_AFTER_WITH


# What a person may type besides. Indices are those of the attribute's levels or values; several indices mean
# that the phrase leaves open which one. Plurals, spellings, articles and "the mouth is open" for "open mouth"
# need no entry of their own: see `STEMS` and `reading`.
SYNONYMS: dict[str, tuple[str, int | str | tuple[int | str, ...]]] = {
    "smile": ("smile", (3, 4)),
    "happy": ("smile", (3, 4)),
    "cheerful": ("smile", (3, 4)),
    "happy smile": ("smile", (3, 4)),
    "very happy": ("smile", 4),
    "wide smile": ("smile", 4),
    "large smile": ("smile", 4),
    "grin": ("smile", 4),
    "faint smile": ("smile", 3),
    "subtle smile": ("smile", 3),
    "frown": ("smile", (0, 1)),
    "sad": ("smile", (0, 1)),
    "unhappy": ("smile", (0, 1)),
    "very sad": ("smile", 0),
    "deep frown": ("smile", 0),
    "slightly sad": ("smile", 1),
    "neutral": ("smile", 2),
    "serious": ("smile", 2),
    "open mouth": ("mouth_open", (1, 2)),
    "mouth open": ("mouth_open", (1, 2)),
    "mouth closed": ("mouth_open", 0),
    "parted mouth": ("mouth_open", 1),
    "half open mouth": ("mouth_open", 1),
    "open eyes": ("eye_open", (1, 2)),
    "closed eyes": ("eye_open", 0),
    "eyes closed": ("eye_open", 0),
    "small eyes": ("eye_open", 0),
    "squinting": ("eye_open", 0),
    "big eyes": ("eye_open", 2),
    "large eyes": ("eye_open", 2),
    "round eyes": ("eye_open", 2),
    "worried": ("brow_tilt", 0),
    "concerned": ("brow_tilt", 0),
    "neutral brows": ("brow_tilt", 1),
    "angry": ("brow_tilt", 2),
    "furious": ("brow_tilt", 2),
    "looking straight": ("gaze", 1),
    "looking forward": ("gaze", 1),
    "looking at the camera": ("gaze", 1),
    "looking at viewer": ("gaze", 1),
    "eyes left": ("gaze", 0),
    "eyes right": ("gaze", 2),
    "bald": ("hair_length", 0),
    "no hair": ("hair_length", 0),
    "buzz cut": ("hair_length", 0),
    "shaved head": ("hair_length", 0),
    "thin face": ("face_width", 0),
    "slender face": ("face_width", 0),
    "normal face": ("face_width", 1),
    "white skin": ("skin_tone", (0, 1)),
    "olive skin": ("skin_tone", 2),
    "black skin": ("skin_tone", 4),
    "very young": ("age", 0),
    "child": ("age", 0),
    "kid": ("age", 0),
    "teenager": ("age", 0),
    "older": ("age", (1, 2)),
    "very old": ("age", 2),
    "aged": ("age", 2),
    "senior": ("age", 2),
    "beard": ("beard", (1, 2, 3)),
    "bearded": ("beard", (1, 2, 3)),
    "short beard": ("beard", (1, 2)),
    "big beard": ("beard", 3),
    "very long beard": ("beard", 3),
    "unshaven": ("beard", 1),
    "stubbly": ("beard", 1),
    "beardless": ("beard", 0),
    "shaven": ("beard", 0),
    "shaved": ("beard", 0),
    "head left": ("head_tilt", 0),
    "head right": ("head_tilt", 2),
    "head straight": ("head_tilt", 1),
    "tilted left": ("head_tilt", 0),
    "tilted right": ("head_tilt", 2),
    "redhead": ("hair_color", "red"),
    "blond": ("hair_color", "blond"),
    "brunette": ("hair_color", "brown"),
    "curls": ("hair_style", "curly"),
    "glasses": ("glasses", ("round", "square")),
    "shades": ("glasses", "sunglasses"),
    "dark glasses": ("glasses", "sunglasses"),
    "hat": ("hat", ("cap", "beanie", "crown")),
    "baseball hat": ("hat", "cap"),
    "woolen hat": ("hat", "beanie"),
    "wool hat": ("hat", "beanie"),
    "knitted hat": ("hat", "beanie"),
    "earrings": ("earrings", ("pearls", "hoops")),
    "hoops": ("earrings", "hoops"),
    "violet shirt": ("shirt", "purple"),
}
"""Phrase -> (attribute, the level indices or value names that it allows)."""

HAIR_SYNONYMS: dict[str, tuple[str, int | str | tuple[int | str, ...]]] = {
    "very long": ("hair_length", 3),
    "buzzed": ("hair_length", 0),
    "dark": ("hair_color", ("black", "brown")),
    "auburn": ("hair_color", "red"),
    "orange": ("hair_color", "red"),
    "fair": ("hair_color", "blond"),
    "yellow": ("hair_color", "blond"),
    "white": ("hair_color", "grey"),
    "smooth": ("hair_style", "straight"),
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

FILLERS = PEOPLE - {"face"} | frozenset(
    "portrait picture photo image drawing painting of with in on off to into at for from by as "
    "he she they it him her them his their its this that who which i me you we one there some very "
    "wearing wear wears worn has have having had show shows showing color please t now then so be being "
    "make makes give gives let put add change turn dye paint set swap replace exchange switch get grow "
    "take remove delete rid lose stop drop keep hold hide cut would could can should want like instead "
    "also just more other but".split()
)
"""Words that carry no attribute."""
