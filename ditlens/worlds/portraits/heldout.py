"""Held-out combinations of values, to test whether the model composes.

A model that has seen red hair and green backgrounds often, but never both in one image, can draw the two together
only if it represents them separately. The autoencoder, the oracle and the describer do see them: they are
instruments here.
"""

from __future__ import annotations

import torch

from ditlens.worlds.portraits.attributes import ATTRIBUTES, Attributes

HELD_OUT: tuple[dict[str, str], ...] = (
    {"hair_color": "red", "background": "green"},
    {"hat": "crown", "glasses": "sunglasses"},
    {"earrings": "hoops", "shirt": "blue"},
    {"hair_style": "curly", "hat": "cap"},
)
"""Pairs of values; each value occurs with every other partner."""


def match(attributes: Attributes, combination: dict[str, str]) -> torch.Tensor:
    """Which portraits have all values of a combination, a boolean tensor (batch,)."""
    return torch.stack([attributes[n] == ATTRIBUTES[n].level_of(v) for n, v in combination.items()]).all(0)


def held_out(attributes: Attributes) -> torch.Tensor:
    """Which portraits have a held-out combination, a boolean tensor (batch,)."""
    return torch.stack([match(attributes, combination) for combination in HELD_OUT]).any(0)
