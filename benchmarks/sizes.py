"""Choose the transformer's size: quality against time, ``make bench-sizes`` (an hour and a half on one core).

Every size is trained from nothing by the recipe of `ditlens.train.mmdit` for the same time on one thread, with the
shipped autoencoder and text encoders, and measured on the same held-out captions; two of them also for a longer
time, because a small one learns faster at first. Then the time of one guided call of the transformer is taken for
all sizes in turns. Writes ``benchmarks/results/sizes.json`` and ``docs/model/sizes.md``; if it is
interrupted, the same command continues.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import RESULTS, ROOT
from benchmarks.portraits.common import Bench
from benchmarks.portraits.quality import captions
from benchmarks.report import record
from ditlens.metrics.statistics import bootstrap
from ditlens.models.loading import load
from ditlens.train import data, mmdit
from ditlens.train.loop import Budget
from ditlens.train.run import load_text, load_vae

SIZES = {"4 x 128": (4, 4), "6 x 192": (6, 6), "8 x 256": (8, 8), "10 x 320": (10, 10)}
"""Blocks x width: number of blocks, number of heads of width 32."""
SHIPPED = f"{mmdit.CONFIG['num_layers']} x {mmdit.CONFIG['caption_projection_dim']}"
LONGER = ("4 x 128", SHIPPED)
"""Sizes that are also trained for a longer time."""


def main() -> None:
    """Train and measure what is missing, take the times, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="training time of each size (10)")
    parser.add_argument(
        "--longer", type=float, default=20.0, help="training time of two of them besides (20)"
    )
    parser.add_argument("--captions", type=int, default=60, help="held-out captions to sample (60)")
    parser.add_argument("--calls", type=int, default=30, help="timed calls of each size (30)")
    parser.add_argument(
        "--only", choices=tuple(SIZES), help="train and measure this size only, write no table"
    )
    parser.add_argument("--work", type=Path, default=ROOT / "outputs" / "train" / "work",
                        help="where the training set's latents are, or will be made")  # fmt: skip
    parser.add_argument(
        "--out", type=Path, default=ROOT / "outputs" / "sizes", help="for checkpoints and weights"
    )
    options = parser.parse_args()
    all_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    trials = [(name, options.minutes) for name in SIZES] + [(name, options.longer) for name in LONGER]
    trials = [trial for trial in trials if options.only in (None, trial[0])]
    parts = {
        f"{name}, {minutes:g} minutes": trained_and_measured(name, minutes, options)
        for name, minutes in trials
    }
    if options.only:
        return
    torch.set_num_threads(all_threads)
    taken = times(options.calls)
    for (name, _), part in zip(trials, parts.values(), strict=True):
        low, high = bootstrap(taken[name], np.median)
        part |= {"ms": 1000 * float(np.median(taken[name])), "ms_low": 1000 * low, "ms_high": 1000 * high}
    counts = f"--minutes {options.minutes:g} --longer {options.longer:g} --captions {options.captions}"
    result = {
        "value": len(SIZES), "n": len(trials), "unit": "sizes", "parts": parts,
        "note": "trained on one thread; the table is docs/model/sizes.md",
    }  # fmt: skip
    found = record(RESULTS / "sizes.json", {"size_table": result}, f'make bench-sizes ARGS="{counts}"')
    page = ROOT / "docs" / "model" / "sizes.md"
    page.write_text(table(found["size_table"]), "utf-8")
    print(page.read_text("utf-8"))


def config(name: str) -> dict[str, Any]:
    """Settings of a transformer of one size."""
    blocks, heads = SIZES[name]
    return mmdit.CONFIG | {
        "num_layers": blocks, "num_attention_heads": heads,
        "caption_projection_dim": heads * mmdit.CONFIG["attention_head_dim"],
    }  # fmt: skip


def trained_and_measured(name: str, minutes: float, options: argparse.Namespace) -> dict[str, Any]:
    """Train one size for a given time, sample the held-out captions; what was done before is read."""
    from diffusers import SD3Transformer2DModel

    folder = options.out / f"{name.replace(' ', '')}-{minutes:g}"
    done = folder / f"{options.captions}.json"
    if done.is_file():
        return json.loads(done.read_text("utf-8"))
    model = load("portraits", device="cpu")
    assert model.folder is not None, "the model is a folder"
    folder.mkdir(parents=True, exist_ok=True)
    budget = Budget(minutes=minutes, folder=folder, resume=True)
    torch.manual_seed(0)
    transformer = SD3Transformer2DModel(**config(name))
    vae, text = load_vae(model.folder, budget), load_text(model.folder, budget)
    data.latents(vae, Budget(minutes=minutes, folder=options.work))  # made once, for all sizes
    latents = folder / "latents.pt"
    if not latents.exists():
        latents.symlink_to((options.work / latents.name).resolve())
    print(f"{name}: {minutes:g} minutes of training", file=sys.stderr, flush=True)
    transformer, report = mmdit.train(budget, vae, *text, transformer)
    model.pipe.transformer = transformer.eval().requires_grad_(False)
    quality = captions(Bench(model, captions=options.captions))
    part = {
        "size": name,
        "minutes": minutes,
        "weights": sum(p.numel() for p in transformer.parameters()),
        "samples": int(report["samples"]),
        **{
            f"{kind}{end}": quality[f"caption_{kind}_accuracy"][key]
            for kind in ("categorical", "level")
            for end, key in (("", "value"), ("_low", "low"), ("_high", "high"))
        },
    }
    done.write_text(json.dumps(part) + "\n", "utf-8")
    return part


@torch.inference_mode()
def times(calls: int) -> dict[str, list[float]]:
    """Seconds of one guided call (two pictures, 64 text rows) of every size, in turns, without the first two."""
    from diffusers import SD3Transformer2DModel

    models = {name: SD3Transformer2DModel(**config(name)).eval() for name in SIZES}
    any_config = next(iter(models.values())).config
    inputs = {
        "hidden_states": torch.randn(
            2, any_config.in_channels, any_config.sample_size, any_config.sample_size
        ),
        "encoder_hidden_states": torch.randn(2, 64, any_config.joint_attention_dim),
        "pooled_projections": torch.randn(2, any_config.pooled_projection_dim),
        "timestep": torch.full((2,), 500.0),
    }
    taken: dict[str, list[float]] = {name: [] for name in SIZES}
    for turn in range(calls + 2):
        for name, model in models.items():
            started = time.perf_counter()
            model(**inputs)
            if turn > 1:
                taken[name].append(time.perf_counter() - started)
    return taken


def table(result: dict[str, Any]) -> str:
    """The page."""
    parts = list(result["parts"].values())
    lines = [
        "# Which size?",
        "",
        "Every size was trained from nothing on one thread, by the recipe of the shipped model, with the "
        "text encoders and the autoencoder that it had on that day, and then drew the same held-out captions (20 "
        "steps, the model's own guidance). Written by `make bench-sizes`.",
        "",
        "| trained for | blocks x width | weights | in half precision | pictures seen | categorical right | "
        "level right | one guided call |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for part in parts:
        shares = (
            f"{part[kind]:.3f} ({part[f'{kind}_low']:.3f} to {part[f'{kind}_high']:.3f})"
            for kind in ("categorical", "level")
        )
        lines.append(
            f"| {part['minutes']:g} min | {part['size']}{' (shipped)' if part['size'] == SHIPPED else ''} | "
            f"{part['weights'] / 1e6:.1f} M | {2 * part['weights'] / 1e6:.0f} MB | {part['samples']:,} | "
            f"{' | '.join(shares)} | {part['ms']:.0f} ms ({part['ms_low']:.0f} to {part['ms_high']:.0f}) |"
        )
    lines += [
        "",
        "Short runs tell how fast a size learns, not how good it becomes. The shipped weights were trained for "
        "longer, in two processes: [results.md](results.md).",
        "",
        f"Measured on {result['date']}, {result['hardware']}; `{result['command']}`.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
