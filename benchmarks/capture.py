"""Measure what capturing costs, and that nothing is lost: `make bench-capture`.

Writes ``benchmarks/results/capture.json``. Overheads are ratios: the same forward with and without capture, in
interleaved pairs, beside other tools doing the same work. nnsight and pyvene are measured where they are installed
(``pip install nnsight pyvene``); the "baukit-style" trace is baukit's recipe, written out here.
"""

from __future__ import annotations

import argparse
import copy
import datetime
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from intervals import bootstrap
from model import hardware, ordered

import ditlens as dl
from ditlens import studies
from ditlens.adapters.table import ARCHITECTURES

ROOT = Path(__file__).parents[1]
OUT = "joint.*.{text,image}.out"
FOUR = "joint.{1,4,7,10}.{text,image}.out"
CPU = {
    "sample_size": 32, "patch_size": 2, "in_channels": 16, "out_channels": 16, "num_layers": 12,
    "attention_head_dim": 64, "num_attention_heads": 8, "joint_attention_dim": 512,
    "caption_projection_dim": 512, "pooled_projection_dim": 256, "pos_embed_max_size": 16, "qk_norm": "rms_norm",
}  # fmt: skip
"""12 blocks of width 512, 256 image tokens, 77 text tokens."""
SD35_MEDIUM = {
    "sample_size": 128, "patch_size": 2, "in_channels": 16, "out_channels": 16, "num_layers": 24,
    "attention_head_dim": 64, "num_attention_heads": 24, "joint_attention_dim": 4096,
    "caption_projection_dim": 1536, "pooled_projection_dim": 2048, "pos_embed_max_size": 384,
    "dual_attention_layers": tuple(range(13)), "qk_norm": "rms_norm",
}  # fmt: skip
"""The geometry of SD3.5-medium; random weights."""


# --- tools -------------------------------------------------------------------------------------------------


def plain(model: Any, inputs: dict, sites: str, reduce: str | None) -> Callable[[], Any]:
    """No capture."""
    return lambda: model(**inputs)


def ours(model: Any, inputs: dict, sites: str, reduce: str | None) -> Callable[[], Any]:
    """Our own."""

    def run() -> Any:
        with dl.capture(model, sites, reduce=reduce) as cache:
            model(**inputs)
        return cache

    return run


def chosen_blocks(model: Any, sites: str) -> list[Any]:
    """The blocks that a pattern names."""
    numbers = sorted({site.block for site in dl.sites(model, sites)})
    return [model.transformer_blocks[i] for i in numbers]


def keep(output: Any, reduce: str | None) -> list[torch.Tensor]:
    """What every tool does with a block's output: detach, reduce, copy to the host."""
    found = []
    for x in output:
        if x is not None:
            x = x.detach()
            x = x.mean(1) if reduce == "mean" else x
            found.append(x.to("cpu", copy=True))
    return found


def hooks(model: Any, inputs: dict, sites: str, reduce: str | None) -> Callable[[], Any]:
    """Plain PyTorch hooks, written by hand."""
    blocks = chosen_blocks(model, sites)

    def run() -> Any:
        store: list[Any] = []
        handles = [b.register_forward_hook(lambda m, a, o: store.append(keep(o, reduce))) for b in blocks]
        try:
            model(**inputs)
        finally:
            for handle in handles:
                handle.remove()
        return store

    return run


class Trace:
    """baukit's recipe: a context that retains the output of one module."""

    def __init__(self, module: Any, reduce: str | None) -> None:
        self.output: Any = None

        def retain(module: Any, args: Any, output: Any) -> Any:
            self.output = keep(output, reduce)
            return output

        self.handle = module.register_forward_hook(retain)

    def close(self) -> None:
        self.handle.remove()


def baukit(model: Any, inputs: dict, sites: str, reduce: str | None) -> Callable[[], Any]:
    """A TraceDict as baukit has it."""
    names = [n for n, m in model.named_modules() if any(m is b for b in chosen_blocks(model, sites))]

    def run() -> Any:
        traces = {name: Trace(model.get_submodule(name), reduce) for name in names}
        try:
            model(**inputs)
        finally:
            for trace in traces.values():
                trace.close()
        return traces

    return run


def nnsight(model: Any, inputs: dict, sites: str, reduce: str | None) -> Callable[[], Any]:
    """Its tracing context."""
    from nnsight import NNsight

    wrapped = NNsight(model)
    numbers = sorted({site.block for site in dl.sites(model, sites)})

    def run() -> Any:
        store: list[Any] = []
        with wrapped.trace(**inputs):
            for i in numbers:
                store.append(keep(wrapped.transformer_blocks[i].output, reduce))
        return store

    return run


def pyvene(model: Any, inputs: dict, sites: str, reduce: str | None) -> Callable[[], Any]:
    """Its collecting interventions; it reads a block's first output only, so half of the work."""
    import pyvene as pv

    numbers = [
        i for i in sorted({s.block for s in dl.sites(model, sites)}) if i < len(model.transformer_blocks) - 1
    ]
    store: list[Any] = []

    def collect(base: torch.Tensor, source: Any, *_: Any, **__: Any) -> torch.Tensor:
        store.append(keep([base], reduce))
        return base

    config = [{"component": f"transformer_blocks[{i}].output", "intervention": collect} for i in numbers]
    wrapped = pv.IntervenableModel(config, model=model)

    def run() -> Any:
        store.clear()
        wrapped(inputs)
        return list(store)

    return run


TOOLS = {
    "none": plain,
    "ditlens": ours,
    "hooks": hooks,
    "baukit-style": baukit,
    "nnsight": nnsight,
    "pyvene": pyvene,
}


# --- overhead ----------------------------------------------------------------------------------------------


def make_inputs(
    config: dict, tokens: int, device: torch.device, dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    """One guided forward: batch 2."""
    g = torch.Generator().manual_seed(0)
    side = config["sample_size"]
    return {
        "hidden_states": torch.randn(2, config["in_channels"], side, side, generator=g).to(device, dtype),
        "encoder_hidden_states": torch.randn(2, tokens, config["joint_attention_dim"], generator=g).to(
            device, dtype
        ),
        "pooled_projections": torch.randn(2, config["pooled_projection_dim"], generator=g).to(device, dtype),
        "timestep": torch.full((2,), 500.0, device=device),
    }


@torch.no_grad()
def overhead(
    config: dict, tokens: int, sites: str, reduce: str | None, pairs: int, device: str, tools: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Ratios of the wall time with each tool to that without, in interleaved rounds.

    Args:
        config: Geometry of the SD3 transformer.
        tokens: Text tokens.
        sites: What is captured.
        reduce: What is kept of the tokens.
        pairs: Rounds; each runs every tool once, in an order of its own.
        device: Where.
        tools: Names from `TOOLS`; those that are not installed are left out.

    Returns:
        For each tool: median ratio, its interval, median seconds, and the growth of memory.
    """
    from diffusers import SD3Transformer2DModel

    where = torch.device(device)
    dtype = torch.bfloat16 if where.type == "cuda" else torch.float32
    torch.manual_seed(0)
    base = SD3Transformer2DModel(**config).eval().requires_grad_(False).to(where, dtype)
    inputs = make_inputs(config, tokens, where, dtype)
    calls: dict[str, Callable[[], Any]] = {}
    for name in tools:
        shares = where.type == "cuda" and name in ("none", "ditlens", "hooks", "baukit-style")
        model = base if name == "none" or shares else copy.deepcopy(base)  # nnsight keeps what it changes
        try:
            calls[name] = TOOLS[name](model, inputs, sites, reduce)
            for _ in range(3):
                calls[name]()
        except ImportError:
            print(f"{name} is not installed: left out", file=sys.stderr)
            calls.pop(name, None)
    times: dict[str, list[float]] = {name: [] for name in calls}
    order = list(calls)
    for i in range(pairs):
        random.Random(i).shuffle(order)
        for name in order:
            times[name].append(seconds(calls[name], where))
        print(f"\r{i + 1}/{pairs} rounds", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    found = {}
    for name, values in times.items():
        ratios = np.array(values) / np.array(times["none"])
        low, high = bootstrap(ratios, np.median)
        found[name] = {"value": float(np.median(ratios)), "low": low, "high": high, "n": pairs,
                       "seconds": float(np.median(values))}  # fmt: skip
    return found


def seconds(call: Callable[[], Any], device: torch.device) -> float:
    """Wall time of a call; on a GPU until all its work is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    result = call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    taken = time.perf_counter() - started
    del result
    return taken


def overhead_cpu(options: argparse.Namespace) -> dict[str, Any]:
    """`overhead_cpu_ratio`: every block, both streams, beside the peers."""
    every = overhead(CPU, 77, OUT, None, options.pairs, "cpu", list(TOOLS))
    four = overhead(CPU, 77, FOUR, "mean", options.pairs, "cpu", list(TOOLS))
    mine = every.pop("ditlens")
    peers = ", ".join(f"{name} {r['value']:.3f}" for name, r in every.items() if name != "none")
    note = (
        f"12 blocks, 256 + 77 tokens, both streams of all blocks; {every['none']['seconds']:.2f} s without; "
        f"peers: {peers} (pyvene reads the text stream only)"
    )
    parts = {f"all blocks, {n}": r for n, r in every.items()} | {
        f"4 blocks, mean, {n}": r for n, r in four.items()
    }
    result = {k: mine[k] for k in ("value", "low", "high", "n")} | {"unit": "x", "note": note, "parts": parts}
    return {"overhead_cpu_ratio": result}


def overhead_gpu(options: argparse.Namespace) -> dict[str, Any]:
    """`overhead_gpu_ratio`: SD3.5-medium's geometry at 1024 x 1024, four blocks, means."""
    if not torch.cuda.is_available():
        raise RuntimeError("there is no GPU here")
    pattern = "joint.{2,8,14,20}.{text,image}.out"
    found = overhead(SD35_MEDIUM, 333, pattern, "mean", options.pairs, "cuda", ["none", "ditlens", "hooks"])
    full = overhead(SD35_MEDIUM, 333, OUT, None, options.pairs, "cuda", ["none", "ditlens", "hooks"])
    mine = found.pop("ditlens")
    note = f"4 blocks x mean, bf16, batch 2, {found['none']['seconds'] * 1000:.0f} ms without capture"
    parts = found | {f"all blocks, {name}": r for name, r in full.items()}
    result = {k: mine[k] for k in ("value", "low", "high", "n")} | {"unit": "x", "note": note, "parts": parts}
    return {"overhead_gpu_ratio": result}


# --- studies -----------------------------------------------------------------------------------------------


def prompts(count: int) -> list[str]:
    """Held-out captions of the portraits world."""
    from ditlens.worlds.portraits import captions
    from ditlens.worlds.portraits.attributes import sample

    truth = sample(count, torch.Generator().manual_seed(77))
    return captions.caption_all(truth, rng=random.Random(77))


def memory(options: argparse.Namespace) -> dict[str, Any]:
    """`study_memory_growth_mb`: a streamed study must not grow."""
    model = dl.load("portraits", device="cpu")
    plan = studies.plan(model, prompts(options.prompts), [0], OUT, sampling_steps=8)
    process, sizes = psutil.Process(), []
    with tempfile.TemporaryDirectory() as folder:
        study = studies.run(
            model, plan, folder, progress=lambda done, total: sizes.append(process.memory_info().rss)
        )
        written = sum(study.path(item).stat().st_size for item in study.items) / 1e6
    growth = (max(sizes[20:]) - sizes[19]) / 1e6
    note = f"largest resident size after prompt 20 less that at prompt 20; {written:.0f} MB were written"
    return {"study_memory_growth_mb": {"value": growth, "low": None, "high": None, "n": len(sizes), "unit": "MB",
                                       "note": note}}  # fmt: skip


def kills(options: argparse.Namespace) -> dict[str, Any]:
    """`kill_lost_or_doubled`: kill -9 at random moments, start again, compare with an undisturbed study."""
    generator, bad, survived = random.Random(0), 0, []
    with tempfile.TemporaryDirectory() as name:
        folder, texts = Path(name), Path(name) / "prompts.txt"
        texts.write_text("\n".join(prompts(12)))

        def arguments(out: str) -> list[str]:
            return [sys.executable, "-m", "ditlens.cli", "capture", "--prompts", str(texts), "--seeds", "0:2",
                    "--sites", OUT, "--sampling-steps", "8", "--device", "cpu",
                    "--out", str(folder / out)]  # fmt: skip

        started = time.perf_counter()
        subprocess.run(arguments("whole"), check=True, capture_output=True)
        whole, length = dl.open(folder / "whole"), time.perf_counter() - started
        for trial in range(options.kills):
            out = f"trial{trial}"
            process = subprocess.Popen(arguments(out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(generator.uniform(0.4, 1.0) * length)
            process.send_signal(signal.SIGKILL)
            process.wait()
            before = {p.name: p.stat().st_mtime_ns for p in (folder / out / "items").glob("*.safetensors")}
            survived.append(len(before))
            subprocess.run(arguments(out), check=True, capture_output=True)
            study = dl.open(folder / out)
            after = {p.name: p.stat().st_mtime_ns for p in (folder / out / "items").glob("*.safetensors")}
            lost = len(study.missing) + len(study.verify()) + (len(after) != len(whole.manifest.items))
            doubled = sum(after[name] != stamp for name, stamp in before.items())
            site = study.sites[0]
            bad += lost + doubled + (not torch.equal(study[site], whole[site]))
            print(f"\r{trial + 1}/{options.kills} kills", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    note = (
        f"items lost, computed twice or different after killing at random moments and starting again; "
        f"{min(survived)} to {max(survived)} of 24 items were done at the kill"
    )
    return {"kill_lost_or_doubled": {"value": float(bad), "low": None, "high": None, "n": options.kills,
                                     "unit": "items", "note": note}}  # fmt: skip


def workers(options: argparse.Namespace) -> dict[str, Any]:
    """`two_worker_speedup`: the same study by one worker and by two, each with one core."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    ratios, times = [], {1: [], 2: []}
    with tempfile.TemporaryDirectory() as name:
        texts = Path(name) / "prompts.txt"
        texts.write_text("\n".join(prompts(options.worker_prompts)))
        for trial in range(options.worker_trials):
            for count in (1, 2):
                out = Path(name) / f"{trial}-{count}"
                command = [sys.executable, "-m", "ditlens.cli", "capture", "--prompts", str(texts), "--seeds", "0",
                           "--sites", OUT, "--reduce", "mean", "--device", "cpu", "--out", str(out),
                           "--workers", str(count)]  # fmt: skip
                started = time.perf_counter()
                subprocess.run(command, check=True, capture_output=True, env=environment)
                times[count].append(time.perf_counter() - started)
            ratios.append(times[1][-1] / times[2][-1])
    note = (
        f"{options.worker_prompts} prompts, start included: {np.median(times[1]):.0f} s against "
        f"{np.median(times[2]):.0f} s; one thread each"
    )
    return {"two_worker_speedup": {"value": float(np.median(ratios)), "low": min(ratios), "high": max(ratios),
                                   "n": len(ratios), "unit": "x", "note": note}}  # fmt: skip


# --- contracts ---------------------------------------------------------------------------------------------


def contracts(options: argparse.Namespace) -> dict[str, Any]:
    """`joint_classes_supported` and `leaks`: the contract tests, counted."""
    with tempfile.TemporaryDirectory() as name:
        report = Path(name) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/contracts",
                   f"--junitxml={report}"]  # fmt: skip
        subprocess.run(command, cwd=ROOT, check=False, capture_output=True)
        cases = list(ElementTree.parse(report).iter("testcase"))
    failed = [
        c.get("name", "") for c in cases if c.find("failure") is not None or c.find("error") is not None
    ]
    classes = [n for n in ARCHITECTURES if any(f"[{n}" in (c.get("name") or "") for c in cases)]
    good = [n for n in classes if not any(f"[{n}" in f for f in failed)]
    life = [c for c in cases if "test_hook_lifetime" in (c.get("classname") or "")]
    leaks = [c for c in life if (c.get("name") or "") in failed]
    return {
        "joint_classes_supported": {
            "value": float(len(good)), "low": None, "high": None, "n": len(ARCHITECTURES), "unit": "classes",
            "note": f"classes that pass every contract test, of {len(ARCHITECTURES)}; {len(cases)} tests",
        },
        "leaks": {
            "value": float(len(leaks)), "low": None, "high": None, "n": len(life), "unit": "tests",
            "note": "tests of the hook-lifetime matrix after which a hook of ours is left or another is gone",
        },
    }  # fmt: skip


GROUPS: dict[tuple[str, ...], Callable[[argparse.Namespace], dict[str, Any]]] = {
    ("joint_classes_supported", "leaks"): contracts,
    ("overhead_cpu_ratio",): overhead_cpu,
    ("overhead_gpu_ratio",): overhead_gpu,
    ("study_memory_growth_mb",): memory,
    ("kill_lost_or_doubled",): kills,
    ("two_worker_speedup",): workers,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code: 1 if something could not be measured."""
    keys = [key for names in GROUPS for key in names]
    parser = argparse.ArgumentParser(description="Measure what capturing costs.")
    parser.add_argument("--only", type=lambda text: text.split(","), default=keys, help=", ".join(keys))
    parser.add_argument("--pairs", type=int, default=20, help="rounds of each overhead (20)")
    parser.add_argument("--prompts", type=int, default=200, help="prompts of the memory study (200)")
    parser.add_argument("--kills", type=int, default=20, help="kills (20)")
    parser.add_argument("--worker-prompts", type=int, default=120, help="prompts of the worker study (120)")
    parser.add_argument("--worker-trials", type=int, default=3, help="repetitions of it (3)")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "capture.json")
    options = parser.parse_args(argv)
    if unknown := set(options.only) - set(keys):
        parser.error(f"unknown key {', '.join(sorted(unknown))}; there are {', '.join(keys)}")
    results = json.loads(options.out.read_text("utf-8")) if options.out.is_file() else {}
    code = 0
    for names, measure in GROUPS.items():
        if not set(names) & set(options.only):
            continue
        print(f"{', '.join(names)} ...", file=sys.stderr)
        try:
            measured = measure(options)
        except RuntimeError as error:
            print(f"not measured: {error}", file=sys.stderr)
            code = code if "GPU" in str(error) else 1
            continue
        device = torch.device("cuda" if names == ("overhead_gpu_ratio",) else "cpu")
        common = {
            "command": "make bench-capture", "date": datetime.date.today().isoformat(),
            "hardware": hardware(device),
        }  # fmt: skip
        results |= {name: ordered(measured[name] | common) for name in names}
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps({k: results[k] for k in keys if k in results}, indent=2) + "\n")
    for key in keys:
        if key in results:
            print(f"{key}: {results[key]['value']:.4g} {results[key]['unit']}  ({results[key]['note']})")
    return code


if __name__ == "__main__":
    sys.exit(main())
