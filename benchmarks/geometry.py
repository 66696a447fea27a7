"""Time and memory of edits at the real geometry of large models, with random weights: ``make bench-geometry``.

Needs a CUDA device with about 9 GB for SD3.5-medium and 26 GB for FLUX.1-dev. Each method edits a picture of
1024 x 1024 in turns with the stock pipeline, which samples one; what counts is the time for one row of the
transformer's batch and the peak of the memory, as ratios to the pipeline's. Text encoders are of the real widths
but one layer deep: they run a few times, not at every step. Writes ``benchmarks/results/geometry.json`` after each
family.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

import ditlens as dl
from benchmarks import RESULTS
from benchmarks.capture import FLUX1, SD35_MEDIUM
from benchmarks.report import record
from ditlens.models.loading import wrap
from ditlens.models.model import Model
from ditlens.train.text import build_tokenizer

METHODS = ("ems", "flowedit")
"""EMS and FlowEdit, in their settings for the family."""
STEPS = 28
TEXTS = ("a red cat on a mat", "a blue cat on a mat")
VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512), "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4, "layers_per_block": 2, "latent_channels": 16,
    "use_quant_conv": False, "use_post_quant_conv": False, "scaling_factor": 1.5, "shift_factor": 0.06,
}  # fmt: skip
"""The autoencoder of SD3 and of FLUX.1."""


@contextmanager
def made_on(device: torch.device) -> Iterator[None]:
    """Make modules on a device: in bfloat16 on a GPU, in float32 on the CPU."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16 if device.type == "cuda" else torch.float32)
    torch.manual_seed(0)
    try:
        with device:
            yield
    finally:
        torch.set_default_dtype(before)


def clip(tokenizer: Any, width: int, *, projection: bool) -> Any:
    """A CLIP text encoder of one layer."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=4 * width, projection_dim=width,
        num_hidden_layers=1, num_attention_heads=max(1, width // 64), max_position_embeddings=77,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config)


def t5(tokenizer: Any, width: int) -> Any:
    """A T5 encoder of one layer."""
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(
        T5Config(vocab_size=len(tokenizer), d_model=width, d_kv=64, d_ff=width, num_layers=1, num_heads=4)
    )


def sd3(device: torch.device, config: dict[str, Any], vae: dict[str, Any]) -> Any:
    """A `StableDiffusion3Pipeline` with random weights."""
    from diffusers import (
        AutoencoderKL,
        FlowMatchEulerDiscreteScheduler,
        SD3Transformer2DModel,
        StableDiffusion3Pipeline,
    )

    tokenizer = build_tokenizer()
    tokenizer.model_max_length = 77
    pooled = config["pooled_projection_dim"]
    first = 3 * pooled // 8  # 768 of 2048, as CLIP-L and CLIP-G share them
    with made_on(device):
        return StableDiffusion3Pipeline(
            transformer=SD3Transformer2DModel(**config), vae=AutoencoderKL(**vae),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
            text_encoder=clip(tokenizer, first, projection=True), tokenizer=tokenizer,
            text_encoder_2=clip(tokenizer, pooled - first, projection=True), tokenizer_2=tokenizer,
            text_encoder_3=t5(tokenizer, config["joint_attention_dim"]), tokenizer_3=tokenizer,
        )  # fmt: skip


def flux(device: torch.device, config: dict[str, Any], vae: dict[str, Any]) -> Any:
    """A `FluxPipeline` with random weights."""
    from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

    tokenizer = build_tokenizer()
    tokenizer.model_max_length = 77
    with made_on(device):
        return FluxPipeline(
            transformer=FluxTransformer2DModel(**config), vae=AutoencoderKL(**vae),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
            text_encoder=clip(tokenizer, config["pooled_projection_dim"], projection=False), tokenizer=tokenizer,
            text_encoder_2=t5(tokenizer, config["joint_attention_dim"]), tokenizer_2=tokenizer,
        )  # fmt: skip


FAMILIES: dict[str, tuple[Callable[..., Any], dict[str, Any], int]] = {
    "SD3.5-medium": (sd3, SD35_MEDIUM, 1024),
    "FLUX.1-dev": (flux, FLUX1, 1024),
}
"""Maker of the pipeline, settings of the transformer, height and width of the picture."""


class Rows:
    """Counts the rows of the batches that a transformer is called with."""

    def __init__(self, transformer: torch.nn.Module) -> None:
        self.count = 0
        self.handle = transformer.register_forward_pre_hook(self.add, with_kwargs=True)

    def add(self, module: torch.nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:  # noqa: ARG002
        """Add one call's."""
        self.count += len(kwargs["hidden_states"])


def measured(model: Model, job: Callable[[], Any]) -> dict[str, float]:
    """Run a job once.

    Returns:
        Seconds, rows of the transformer's batches, and the peak of the device's memory in GB (0 on a CPU).
    """
    device, rows = model.device, Rows(model.transformer)
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
    begun = time.perf_counter()
    try:
        job()
        if on_gpu:
            torch.cuda.synchronize(device)
    finally:
        rows.handle.remove()
    peak = torch.cuda.max_memory_allocated(device) / 1e9 if on_gpu else 0.0
    return {"seconds": time.perf_counter() - begun, "rows": rows.count, "peak_gb": peak}


def compare(model: Model, size: int, rounds: int, steps: int) -> dict[str, dict[str, Any]]:
    """Edits and the stock pipeline in turns, after one run of each that does not count.

    Returns:
        For ``sample`` and each of `METHODS`: medians of seconds, rows and peak; and for the methods the ratios of
        the seconds for one row and of the peaks to the pipeline's, round by round.
    """
    picture = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(1))
    texts = {"source_text": TEXTS[0], "target_text": TEXTS[1]}
    jobs: dict[str, Callable[[], Any]] = {
        "sample": lambda: model.pipe(TEXTS[0], height=size, width=size, num_inference_steps=steps)
    }
    for name in METHODS:
        jobs[name] = lambda name=name: dl.edit(model, picture, method=name, **texts)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in jobs}
    for turn in range(rounds + 1):
        for name, job in jobs.items():
            got = measured(model, job)
            if turn:
                found[name].append(got)
    result: dict[str, dict[str, Any]] = {}
    for name, runs in found.items():
        result[name] = {key: float(np.median([run[key] for run in runs])) for key in runs[0]}
        if name != "sample":
            pairs = list(zip(runs, found["sample"], strict=True))
            ratios = [a["seconds"] / a["rows"] / (b["seconds"] / b["rows"]) for a, b in pairs]
            result[name] |= {"value": float(np.median(ratios)), "low": min(ratios), "high": max(ratios)}
            if runs[0]["peak_gb"]:
                result[name]["memory_ratio"] = result[name]["peak_gb"] / result["sample"]["peak_gb"]
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; returns the exit code: 1 without a GPU."""
    parser = argparse.ArgumentParser(description="Time and memory of edits at real geometry.")
    parser.add_argument("--only", choices=tuple(FAMILIES), help="one family (all)")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each that count (5)")
    parser.add_argument("--out", type=Path, default=RESULTS / "geometry.json")
    options = parser.parse_args(argv)
    if not torch.cuda.is_available():
        print("error: no CUDA device was found: real geometry needs one.", file=sys.stderr)
        return 1
    device, code = torch.device("cuda"), 0
    for family, (make, config, size) in FAMILIES.items():
        if options.only in (None, family):
            try:
                pipe = make(device, config, VAE)
                pipe.set_progress_bar_config(disable=True)
                found = compare(wrap(pipe, family), size, options.rounds, STEPS)
                print(json.dumps(found), file=sys.stderr)
                write(options.out, family, found, options.rounds, "cuda")
            except torch.cuda.OutOfMemoryError:
                print(f"{family} does not fit into this GPU: left out", file=sys.stderr)
                code = 1
            pipe = None
            gc.collect()
            torch.cuda.empty_cache()
    return code


def write(out: Path, family: str, found: dict[str, dict[str, Any]], rounds: int, device: str) -> None:
    """Put one family into the results file, EMS's ratio as its value; the other families in it stay."""
    mine, sample = found["ems"], found["sample"]
    note = (
        f"seconds for one row of the transformer's batch, a whole edit by EMS over a sample of the "
        f"stock pipeline in {STEPS} steps; {family}'s geometry, 1024 x 1024, random weights; "
        f"{mine['low']:.2f} to {mine['high']:.2f} in the rounds; an edit {mine['seconds']:.1f} s for "
        f"{mine['rows']:.0f} rows and {mine['peak_gb']:.1f} GB, a sample {sample['seconds']:.1f} s for "
        f"{sample['rows']:.0f} rows and {sample['peak_gb']:.1f} GB"
    )
    result = {"value": mine["value"], "n": rounds, "unit": "x", "note": note, "parts": found}
    command = f'make bench-geometry ARGS="--only {family} --rounds {rounds}"'
    record(out, {key_of(family): result}, command, device)


def key_of(family: str) -> str:
    """The key of a family's result."""
    return "edit_row_ratio_" + family.partition(".")[0].lower()


if __name__ == "__main__":
    sys.exit(main())
