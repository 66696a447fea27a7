"""The model card of a trained folder, written from its reports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ditlens.files import write_whole

STAGE_NAMES = {
    "text": "Tokenizer and text encoders (two `CLIPTextModelWithProjection`)",
    "vae": "Autoencoder (`AutoencoderKL`, f8, 8 channels)",
    "vae_decoder": "Decoder of the autoencoder, trained further with the encoder and the transformer frozen",
    "mmdit": "Transformer (`SD3Transformer2DModel`)",
    "oracle": "Oracle (reads attributes from images)",
    "describer": "Describer (image and text to text)",
}
SKIPPED = {"steps", "minutes", "samples", "seed", "hardware", "date", "held_out"}

HEADER = """---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-image
---

# portraits

A small text-to-image model of cartoon portraits, trained from scratch on images with exact ground truth. It exists
for teaching and testing: the attributes of every image are known, so every edit can be measured.

- **Opens with** `StableDiffusion3Pipeline.from_pretrained(folder)`, no custom code, or `ditlens.load("portraits")`.
- **Data**: images of 128 x 128 drawn by `ditlens.worlds.portraits.render`, attributes drawn independently
  (`attributes.sample`), captions (`captions`) and instructions (`instructions`) from the grammar of
  `ditlens.worlds.portraits`. No photographs, no people, nothing from the web.
- **Recipe**: `ditlens train` (files in `ditlens/train`), stage by stage as in the table below; rectified flow,
  logit-normal noise levels, first half of the loss and then a fifth of it weighted by how much each latent value
  depends on each attribute, captions dropped in 10 % of the samples, up to 256 zero rows after the caption,
  averaged weights.
- **Not for**: photographs, or any image unlike the training set.
- **Licence**: Apache-2.0.

Measured quality, with intervals and failures: `docs/model/results.md` in the repository (`make bench-model`).
"""


def write_card(folder: Path) -> Path:
    """Write the model card of a folder, ``README.md``, from its ``reports.json``; returns its path."""
    reports: dict[str, Any] = json.loads((folder / "reports.json").read_text("utf-8"))
    rows = [
        "| stage | steps | samples seen | minutes | hardware | seed | date |",
        "|---|---|---|---|---|---|---|",
    ]
    for stage, title in STAGE_NAMES.items():
        if stage in reports:
            r = reports[stage]
            cells = [title, f"{r['steps']:.0f}", f"{r.get('samples', 0):,.0f}", f"{r['minutes']:.1f}",
                     r["hardware"], str(r["seed"]), r["date"]]  # fmt: skip
            rows.append("| " + " | ".join(cells) + " |")
    parts = [HEADER, "## Training\n", "\n".join(rows)]
    if reports.get("notes"):  # written by a person
        parts += ["", *(f"- {note}" for note in reports["notes"])]
    if held_out := reports.get("mmdit", {}).get("held_out"):
        pairs = "; ".join(", ".join(f"{n} {v}" for n, v in pair.items()) for pair in held_out)
        parts += ["", f"Held out from training, to measure whether the model can compose: {pairs}."]
    parts += ["\n## Final report of each stage\n"]
    for stage, title in STAGE_NAMES.items():
        measured = {k: v for k, v in reports.get(stage, {}).items() if k not in SKIPPED}
        if measured:
            values = ", ".join(
                f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in measured.items()
            )
            parts.append(f"- **{title}**: {values}")
    path = folder / "README.md"
    write_whole(path, "\n".join(parts) + "\n")
    return path
