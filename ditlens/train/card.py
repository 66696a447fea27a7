"""The model card of a trained folder, written from its reports."""

from __future__ import annotations

import json
from pathlib import Path

from jinja2 import Template

from ditlens.files import write_whole

STAGE_NAMES = {
    "text": "Tokenizer and text encoders (two `CLIPTextModelWithProjection`)",
    "vae": "Autoencoder (`AutoencoderKL`, f8, 8 channels)",
    "vae_decoder": "Decoder of the autoencoder, trained further with the encoder and the transformer frozen",
    "mmdit": "Transformer (`SD3Transformer2DModel`)",
    "oracle": "Oracle (reads attributes from images)",
    "describer": "Describer (image and text to text)",
    "twin": "LoRA of the transformer's attention",
}
FACTS = {"steps", "minutes", "samples", "seed", "hardware", "date", "held_out"}
"""Entries of a report that say how a stage was trained, not what it reached."""


def write_card(folder: Path) -> Path:
    """Write the model card of a folder, ``README.md``, from its ``reports.json``; returns its path."""
    reports = json.loads((folder / "reports.json").read_text("utf-8"))
    name = "twin.md.jinja" if "twin" in reports else "card.md.jinja"
    source = Path(__file__).with_name(name).read_text("utf-8")
    template = Template(source, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    path = folder / "README.md"
    write_whole(path, template.render(reports=reports, stages=STAGE_NAMES, facts=FACTS))
    return path
