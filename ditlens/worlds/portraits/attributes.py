"""The attributes of a portrait: names, ranges and words.

A batch of portraits is described by `Attributes`, a plain mapping from attribute name to a tensor of
shape ``(batch,)``: floats for continuous attributes, int64 class indices for categorical ones.

Continuous attributes are cut into *levels*. A level has three parts:

- ``words``: how captions name it;
- ``low, high``: its cell; the cells of one attribute tile its range. An image *has* the level when the
  measured value lies in the cell;
- the *core*: the inner `CORE` of the cell. Captions name a level only for values in the core, so that a
  caption never claims something that is nearly the next level.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

from ditlens.errors import UnknownAttributeError
from ditlens.worlds.world import Categorical as Categorical
from ditlens.worlds.world import Continuous as Continuous
from ditlens.worlds.world import Level as Level

if TYPE_CHECKING:
    import torch

Attributes: TypeAlias = "dict[str, torch.Tensor]"


def _continuous(
    name: str,
    low: float,
    high: float,
    neutral: float,
    *phrases: tuple[str, ...],
    edges: tuple[float, ...] | None = None,
) -> Continuous:
    """Cut ``[low, high]`` into one cell per entry of `phrases`: at the inner `edges`, else equally."""
    count = len(phrases)
    inner = edges or tuple(low + i * (high - low) / count for i in range(1, count))
    ends = (low, *inner, high)
    levels = tuple(Level(words[0], ends[i], ends[i + 1], words) for i, words in enumerate(phrases))
    return Continuous(name, low, high, neutral, levels)


CONTINUOUS: tuple[Continuous, ...] = (
    _continuous(
        "smile", -1.0, 1.0, 0.0,
        ("a big frown", "a huge frown", "a very sad mouth"),
        ("a slight frown", "a small frown", "a slightly sad mouth"),
        ("a neutral expression", "a calm expression"),
        ("a slight smile", "a small smile", "a little smile"),
        ("a big smile", "a huge smile", "a very happy smile"),
    ),
    _continuous(
        "mouth_open", 0.0, 1.0, 0.0,
        ("a closed mouth", "closed lips"),
        ("a slightly open mouth", "parted lips"),
        ("a wide open mouth", "a very open mouth"),
        edges=(0.15, 0.6),
    ),
    _continuous(
        "eye_open", 0.0, 1.0, 0.5,
        ("narrow eyes", "squinting eyes"),
        ("relaxed eyes", "normal eyes"),
        ("wide open eyes", "big round eyes"),
    ),
    _continuous(
        "brow_tilt", -1.0, 1.0, 0.0,
        ("worried brows", "sad eyebrows"),
        ("level brows", "straight eyebrows"),
        ("angry brows", "fierce eyebrows"),
    ),
    _continuous(
        "gaze", -1.0, 1.0, 0.0,
        ("looking left", "glancing to the left"),
        ("looking straight ahead", "looking at the viewer"),
        ("looking right", "glancing to the right"),
    ),
    _continuous(
        "hair_length", 0.0, 1.0, 0.4,
        ("very short", "cropped"),
        ("short",),
        ("shoulder-length", "medium-length"),
        ("long", "flowing"),
    ),
    _continuous(
        "face_width", -1.0, 1.0, 0.0,
        ("a narrow face", "a slim face"),
        ("an average face", "an oval face"),
        ("a wide face", "a round face"),
    ),
    _continuous(
        "skin_tone", 0.0, 1.0, 0.25,
        ("very light skin", "pale skin"),
        ("light skin", "fair skin"),
        ("tan skin", "medium skin"),
        ("brown skin", "dark skin"),
        ("very dark skin", "deep dark skin"),
    ),
    _continuous(
        "age", 0.0, 1.0, 0.2,
        ("young", "youthful"),
        ("middle-aged", "mature"),
        ("old", "elderly"),
    ),
    _continuous(
        "beard", 0.0, 1.0, 0.0,
        ("clean-shaven", "no beard"),
        ("stubble", "a very short beard"),
        ("a medium beard", "a full beard"),
        ("a long beard", "a huge beard"),
        edges=(0.08, 0.32, 0.66),
    ),
    _continuous(
        "head_tilt", -1.0, 1.0, 0.0,
        ("head tilted left", "head leaning left"),
        ("head upright", "head held straight"),
        ("head tilted right", "head leaning right"),
    ),
)  # fmt: skip

CATEGORICAL: tuple[Categorical, ...] = (
    Categorical(
        "hair_color", ("black", "brown", "blond", "red", "grey", "pink"),
        (("black",), ("brown", "chestnut"), ("blond", "golden"), ("red", "ginger"),
         ("grey", "silver"), ("pink",)),
        neutral=1,
    ),
    Categorical(
        "hair_style", ("straight", "wavy", "curly"),
        (("straight", "sleek"), ("wavy",), ("curly", "frizzy")),
    ),
    Categorical(
        "glasses", ("none", "round", "square", "sunglasses"),
        (("no glasses", "without glasses"), ("round glasses", "circular glasses"),
         ("square glasses", "rectangular glasses"), ("sunglasses", "dark shades")),
    ),
    Categorical(
        "hat", ("none", "cap", "beanie", "crown"),
        (("no hat", "bareheaded"), ("a cap", "a baseball cap"), ("a beanie", "a woolly hat"),
         ("a crown", "a golden crown")),
    ),
    Categorical(
        "earrings", ("none", "pearls", "hoops"),
        (("no earrings", "bare ears"), ("pearl earrings", "pearls"), ("hoop earrings", "gold hoops")),
    ),
    Categorical(
        "shirt", ("red", "blue", "green", "yellow", "purple", "white"),
        (("a red shirt", "a red top"), ("a blue shirt", "a blue top"), ("a green shirt", "a green top"),
         ("a yellow shirt", "a yellow top"), ("a purple shirt", "a purple top"),
         ("a white shirt", "a white top")),
        neutral=1,
    ),
    Categorical(
        "background", ("blue", "green", "pink", "yellow", "grey", "orange"),
        (("a blue background", "a blue backdrop"), ("a green background", "a green backdrop"),
         ("a pink background", "a pink backdrop"), ("a yellow background", "a yellow backdrop"),
         ("a grey background", "a grey backdrop"), ("an orange background", "an orange backdrop")),
    ),
)  # fmt: skip

AT_REST: dict[str, float] = {"beard": 0.4, "mouth_open": 0.3, "glasses": 0.3, "hat": 0.3}
"""How often a random portrait has the neutral value of an attribute, beyond what a uniform draw gives."""

WITH_AGE: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "hair_color": (("black", "brown", "blond", "red", "pink"), ("grey",)),
    "glasses": (("none",), ("round", "square")),
}
"""What a spurious correlation ties to age: the values of young people and of old ones."""

ATTRIBUTES: dict[str, Continuous | Categorical] = {
    **{a.name: a for a in CONTINUOUS},
    **{c.name: c for c in CATEGORICAL},
}
NAMES: tuple[str, ...] = tuple(ATTRIBUTES)


def attribute(name: str) -> Continuous | Categorical:
    """Look an attribute up by name.

    Raises:
        UnknownAttributeError: If there is no such attribute; the message lists the names.
    """
    if name not in ATTRIBUTES:
        raise UnknownAttributeError(f"Portraits have no attribute {name!r}. Use one of: {', '.join(NAMES)}.")
    return ATTRIBUTES[name]


def neutral(batch: int = 1, **overrides: float | int | str) -> Attributes:
    """The neutral portrait, `batch` times, with some attributes overridden.

    Args:
        batch: Number of portraits.
        **overrides: A value per attribute; categorical ones take an index or a value's name.

    Returns:
        Mapping from every attribute name to a tensor of shape ``(batch,)``.
    """
    import torch

    values: Attributes = {}
    for name, a in ATTRIBUTES.items():
        value = overrides.pop(name, a.neutral)
        if isinstance(a, Categorical):
            index = a.level_of(value) if isinstance(value, str) else int(value)
            values[name] = torch.full((batch,), index, dtype=torch.int64, device="cpu")
        else:
            values[name] = torch.full((batch,), float(value), dtype=torch.float32, device="cpu")
    for name in overrides:
        attribute(name)  # raises with the list of names
    return values


def sample(
    count: int,
    generator: torch.Generator | None = None,
    *,
    with_age: float = 0.0,
    device: torch.device | str = "cpu",
) -> Attributes:
    """Draw portraits at random: attributes uniform and independent, except that some rest (`AT_REST`).

    Args:
        count: Number of portraits.
        generator: Source of randomness (on `device`).
        with_age: Strength in [0, 1] of a *spurious correlation*: with this probability a person whose age is above
            0.5 has grey hair and round or square glasses, and a younger one neither (`WITH_AGE`). 0 keeps all
            attributes independent.
        device: Where the tensors live.

    Returns:
        Mapping from attribute name to a tensor of shape ``(count,)``.
    """
    import torch

    def uniform() -> torch.Tensor:
        return torch.rand(count, generator=generator, dtype=torch.float32, device=device)

    values: Attributes = {}
    for a in CONTINUOUS:
        u = uniform()
        values[a.name] = a.low + u * a.range
    for c in CATEGORICAL:
        values[c.name] = torch.randint(len(c.values), (count,), generator=generator, device=device)
    for name, share in AT_REST.items():
        rest = uniform() < share
        values[name] = torch.where(rest, torch.full_like(values[name], attribute(name).neutral), values[name])
    if with_age > 0:
        tied, old = uniform() < with_age, values["age"] > 0.5
        for name, ends in WITH_AGE.items():
            spec = next(c for c in CATEGORICAL if c.name == name)
            young_one, old_one = (
                torch.tensor([spec.level_of(value) for value in some], device=device)[
                    torch.randint(len(some), (count,), generator=generator, device=device)
                ]
                for some in ends
            )
            values[name] = torch.where(tied, torch.where(old, old_one, young_one), values[name])
    return values


def visible(attributes: Attributes) -> dict[str, torch.Tensor]:
    """Which attributes can be seen in each image.

    Sunglasses hide the eyes; headwear over cropped hair hides the style of the hair. A hidden attribute is not
    named in captions, not scored by the oracle and not counted as drift.

    Returns:
        Mapping from attribute name to a bool tensor of shape ``(batch,)``.
    """
    import torch

    some = next(iter(attributes.values()))
    seen = {name: torch.ones(some.shape, dtype=torch.bool, device=some.device) for name in ATTRIBUTES}
    eyes = torch.ne(attributes["glasses"], CATEGORICAL[2].level_of("sunglasses"))
    seen["eye_open"], seen["gaze"] = eyes, eyes
    seen["hair_style"] = torch.logical_or(attributes["hat"] == 0, attributes["hair_length"] > 0.3)
    return seen


def take(attributes: Attributes, index: int | slice | torch.Tensor) -> Attributes:
    """Select portraits from a batch; an int keeps the batch dimension."""
    if isinstance(index, int):
        index = slice(index, index + 1)
    return {name: values[index] for name, values in attributes.items()}


def concatenate(batches: list[Attributes]) -> Attributes:
    """Join batches of portraits along the batch dimension."""
    import torch

    return {name: torch.cat([b[name] for b in batches]) for name in batches[0]}


def describe_values(attributes: Attributes, index: int = 0) -> dict[str, float | str]:
    """One portrait as plain Python values: floats, and names of categorical values."""
    out: dict[str, float | str] = {}
    for name, a in ATTRIBUTES.items():
        value = attributes[name][index].item()
        out[name] = a.values[int(value)] if isinstance(a, Categorical) else round(float(value), 4)
    return out


def distance(a: Mapping[str, float | str], b: Mapping[str, float | str]) -> dict[str, float]:
    """Change of each attribute in units of its range; a categorical one counts 0 (same) or 1 (other).

    Args:
        a: One portrait as returned by `describe_values`.
        b: Another.
    """
    return {name: spec.distance(a[name], b[name]) for name, spec in ATTRIBUTES.items()}
