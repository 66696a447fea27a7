"""The oracle: a small network that reads all attributes of a portrait from its image.

It turns an edit into a measurement: did the target attribute move, by how much, and did anything else?
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from ditlens.errors import ModelError
from ditlens.files import write_json, write_whole
from ditlens.worlds.portraits.attributes import CATEGORICAL, CONTINUOUS, Attributes, describe_values

SIZE = 128
"""Height and width of the images that the network reads; others are resized."""


class Residual(nn.Module):
    """Two 3 x 3 convolutions around a skip."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(x + self.body(x))


class Oracle(nn.Module):
    """Reads attributes from images.

    A convolutional trunk that halves the resolution four times, then linear heads on the 8 x 8 grid of features:
    the layout of a portrait is nearly fixed, so positions are informative and are not pooled.
    """

    def __init__(self, widths: tuple[int, ...] = (24, 48, 96, 128)) -> None:
        super().__init__()
        self.widths = tuple(widths)
        layers: list[nn.Module] = []
        for before, width in zip((3, *widths), widths, strict=False):
            kernel = 5 if before == 3 else 3
            layers += [nn.Conv2d(before, width, kernel, stride=2, padding=kernel // 2, bias=False),
                       nn.BatchNorm2d(width), nn.ReLU(inplace=True)]  # fmt: skip
            if before != 3:
                layers.append(Residual(width))
        self.trunk = nn.Sequential(*layers)
        self.squeeze = nn.Conv2d(widths[-1], 32, 1)
        self.hidden = nn.Linear(32 * 64, 256)
        self.continuous = nn.Linear(256, len(CONTINUOUS))
        self.categorical = nn.ModuleList(nn.Linear(256, len(c.values)) for c in CATEGORICAL)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Features before the heads, (batch, 256): the space of the Fréchet distance.

        Args:
            images: (batch, 3, height, width), values in [0, 1].
        """
        if images.shape[-2:] != (SIZE, SIZE):
            images = F.interpolate(images, (SIZE, SIZE), mode="bilinear", antialias=True, align_corners=False)
        x = self.squeeze(self.trunk(images * 2 - 1))
        return F.relu(self.hidden(x.flatten(1)))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Raw outputs.

        Returns:
            Continuous attributes scaled to [-1, 1], (batch, 11), and logits of each categorical attribute.
        """
        hidden = self.features(images)
        return self.continuous(hidden), [head(hidden) for head in self.categorical]

    @torch.no_grad()
    def read(self, images: torch.Tensor) -> Attributes:
        """Attributes of images.

        Args:
            images: (batch, 3, height, width), values in [0, 1].

        Returns:
            Mapping from attribute name to (batch,): floats in the attribute's units, or class indices.
        """
        device = next(self.parameters()).device
        values, logits = self(images.to(device, torch.float32))
        out: Attributes = {}
        for i, a in enumerate(CONTINUOUS):
            out[a.name] = ((values[:, i].clamp(-1, 1) + 1) / 2 * a.range + a.low).cpu()
        for c, logit in zip(CATEGORICAL, logits, strict=True):
            out[c.name] = logit.argmax(-1).cpu()
        return out

    def measure(self, images: torch.Tensor) -> list[dict[str, float | str]]:
        """Attributes of images as plain values, one dictionary per image."""
        read = self.read(images)
        return [describe_values(read, i) for i in range(len(images))]

    def save(self, folder: Path) -> None:
        """Write ``config.json`` and half-precision ``model.safetensors``."""
        from safetensors.torch import save

        state = {k: v.half() if v.is_floating_point() else v for k, v in self.state_dict().items()}
        write_whole(folder / "model.safetensors", save({k: v.contiguous().cpu() for k, v in state.items()}))
        write_json(folder / "config.json", {"widths": self.widths})

    @classmethod
    def load(cls, folder: Path, device: torch.device | str = "cpu") -> Oracle:
        """Load a saved oracle.

        Raises:
            ModelError: If the files are missing.
        """
        from safetensors.torch import load_file

        if not (folder / "model.safetensors").is_file():
            raise ModelError(
                f"No oracle in {folder}: edits cannot be measured. "
                "Type `ditlens train oracle` to train one, or restore data/models from the repository."
            )
        oracle = cls(tuple(json.loads((folder / "config.json").read_text())["widths"]))
        oracle.load_state_dict(load_file(folder / "model.safetensors"))
        return oracle.float().to(device).eval()


def targets(attributes: Attributes) -> torch.Tensor:
    """Continuous attributes scaled to [-1, 1], (batch, 11): the targets in training."""
    return torch.stack([(attributes[a.name] - a.low) / a.range * 2 - 1 for a in CONTINUOUS], 1)
