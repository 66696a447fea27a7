"""Combinations that training never shows, to ask later whether the model can compose what it knows.

A model that has seen red hair often and green backgrounds often, but never both in one picture, can only draw
the two together if it holds them apart. The autoencoder, the oracle and the describer do see them: they are
instruments here, not the subject.
"""

from __future__ import annotations

import torch

from ditlens.worlds.portraits.attributes import CATEGORICAL, Attributes

HELD_OUT: tuple[dict[str, str], ...] = (
    {"hair_color": "red", "background": "green"},
    {"hat": "crown", "glasses": "sunglasses"},
    {"earrings": "hoops", "shirt": "blue"},
    {"hair_style": "curly", "hat": "cap"},
)
"""Pairs of values; each value appears with every other partner."""


def match(attributes: Attributes, combination: dict[str, str]) -> torch.Tensor:
    """Which portraits have all values of a combination, a boolean tensor (batch,)."""
    values = {c.name: c.values for c in CATEGORICAL}
    return torch.stack(
        [attributes[name] == values[name].index(value) for name, value in combination.items()]
    ).all(0)


def held_out(attributes: Attributes) -> torch.Tensor:
    """Which portraits have a combination that training leaves out, a boolean tensor (batch,)."""
    return torch.stack([match(attributes, combination) for combination in HELD_OUT]).any(0)
