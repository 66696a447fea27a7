"""Measure what capturing costs, and that nothing is lost: `make bench-capture`.

Writes ``benchmarks/results/capture.json``. Overheads are ratios: the time of a forward call with capture over the
mean of the two calls without that come before and after it. Other tools doing the same work stand beside it, in an
order drawn anew in every round. nnsight and pyvene are measured where they are installed (``pip install nnsight
pyvene``); the "baukit-style" trace is baukit's recipe, written out here. On a GPU the geometries of SD3.5-medium
and FLUX.1 are measured, with random weights.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

import ditlens as dl
from benchmarks import RESULTS, ROOT
from benchmarks.report import read_results, record, shown
from ditlens.lens.adapters.table import ARCHITECTURES
from ditlens.lens.study import run as studies
from ditlens.metrics.statistics import bootstrap
from ditlens.models.flux import positions

OUT = "joint.*.{text,image}.out"
FOUR = "joint.{1,4,7,10}.{text,image}.out"
FOUR_FLUX = ("joint.{4,13}.{text,image}.out", "single.{9,28}.{text,image}.out")
Sites = str | Sequence[str]
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
"""The geometry of SD3.5-medium."""
FLUX1 = {
    "patch_size": 1, "in_channels": 64, "num_layers": 19, "num_single_layers": 38, "attention_head_dim": 128,
    "num_attention_heads": 24, "joint_attention_dim": 4096, "pooled_projection_dim": 768, "guidance_embeds": True,
    "axes_dims_rope": (16, 56, 56),
}  # fmt: skip
"""The geometry of FLUX.1-dev: 19 joint and 38 single blocks of width 3072."""


# --- tools -------------------------------------------------------------------------------------------------


def plain(model: Any, inputs: dict, sites: Sites, reduce: str | None) -> Callable[[], Any]:
    """No capture."""
    return lambda: model(**inputs)


def ours(model: Any, inputs: dict, sites: Sites, reduce: str | None) -> Callable[[], Any]:
    """Our own."""

    def run() -> Any:
        with dl.capture(model, sites, reduce=reduce, limit="8 GB") as cache:
            model(**inputs)
        return cache

    return run


def chosen_blocks(model: Any, sites: Sites) -> list[Any]:
    """The blocks that patterns name."""
    found = dict.fromkeys((site.kind, site.block) for site in dl.sites(model, sites))
    lists = {"joint": model.transformer_blocks, "single": getattr(model, "single_transformer_blocks", [])}
    return [lists[kind][i] for kind, i in found]


def keep(output: Any, reduce: str | None) -> list[torch.Tensor]:
    """What every tool does with a block's output: detach, reduce, copy to the host."""
    found = []
    for x in output:
        if x is not None:
            x = x.detach()
            x = x.mean(1) if reduce == "mean" else x
            found.append(x.to("cpu", copy=True))
    return found


def hooks(model: Any, inputs: dict, sites: Sites, reduce: str | None) -> Callable[[], Any]:
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


def baukit(model: Any, inputs: dict, sites: Sites, reduce: str | None) -> Callable[[], Any]:
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


def nnsight(model: Any, inputs: dict, sites: Sites, reduce: str | None) -> Callable[[], Any]:
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


def pyvene(model: Any, inputs: dict, sites: Sites, reduce: str | None) -> Callable[[], Any]:
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


def sd3_inputs(config: dict, text: int) -> dict[str, torch.Tensor]:
    """One guided forward: batch 2."""
    g = torch.Generator().manual_seed(0)
    side = config["sample_size"]
    return {
        "hidden_states": torch.randn(2, config["in_channels"], side, side, generator=g),
        "encoder_hidden_states": torch.randn(2, text, config["joint_attention_dim"], generator=g),
        "pooled_projections": torch.randn(2, config["pooled_projection_dim"], generator=g),
        "timestep": torch.full((2,), 500.0),
    }


def flux_inputs(config: dict, text: int, side: int = 64) -> dict[str, torch.Tensor]:
    """One forward, batch 1, since guidance is an input; `side` tokens in height and width are 16 pixels each."""
    g = torch.Generator().manual_seed(0)
    return {
        "hidden_states": torch.randn(1, side * side, config["in_channels"], generator=g),
        "encoder_hidden_states": torch.randn(1, text, config["joint_attention_dim"], generator=g),
        "pooled_projections": torch.randn(1, config["pooled_projection_dim"], generator=g),
        "timestep": torch.full((1,), 0.5),
        "guidance": torch.full((1,), 3.5),
        "img_ids": positions(2 * side, 2 * side),
        "txt_ids": torch.zeros(text, 3),
    }


@dataclass(frozen=True)
class Geometry:
    """A transformer with random weights and the inputs of one forward call.

    Attributes:
        kind: Its class in diffusers.
        config: Its settings.
        inputs: Makes the inputs from settings and number of text tokens.
        text: Number of text tokens.
    """

    kind: str
    config: dict[str, Any]
    inputs: Callable[[dict[str, Any], int], dict[str, torch.Tensor]]
    text: int

    def make(self, where: torch.device) -> tuple[Any, dict[str, torch.Tensor]]:
        """Transformer and inputs: bfloat16 on a GPU, where they are made at once, float32 on the CPU."""
        import diffusers

        dtype = torch.bfloat16 if where.type == "cuda" else torch.float32
        torch.manual_seed(0)
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            with where:
                model = getattr(diffusers, self.kind)(**self.config)
        finally:
            torch.set_default_dtype(before)
        inputs = self.inputs(self.config, self.text)
        exact = ("timestep", "img_ids", "txt_ids")
        inputs = {name: x.to(where, None if name in exact else dtype) for name, x in inputs.items()}
        return model.eval().requires_grad_(False).to(where), inputs


GEOMETRIES = {
    "small": Geometry("SD3Transformer2DModel", CPU, sd3_inputs, 77),
    "SD3.5-medium": Geometry("SD3Transformer2DModel", SD35_MEDIUM, sd3_inputs, 333),
    "FLUX.1": Geometry("FluxTransformer2DModel", FLUX1, flux_inputs, 512),
}


@torch.no_grad()
def overhead(
    geometry: str, sites: Sites, reduce: str | None, pairs: int, device: str, tools: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Ratios of the wall time with each tool to that without.

    Args:
        geometry: Name from `GEOMETRIES`.
        sites: What is captured.
        reduce: What is kept of the tokens.
        pairs: Rounds; each runs every tool once, between two runs without capture.
        device: Where.
        tools: Names from `TOOLS`; those that are not installed are left out.

    Returns:
        For each tool: median ratio, its interval, median seconds, and the peak of memory in MB: of the process on a
        CPU, of torch's tensors on a GPU. For each other tool also ditlens' ratio over its own, round by round.
    """
    where = torch.device(device)
    base, inputs = GEOMETRIES[geometry].make(where)
    calls: dict[str, Callable[[], Any]] = {}
    for name in tools:
        shares = name == "none" or (where.type == "cuda" and name in ("ditlens", "hooks", "baukit-style"))
        model = base if shares else copy.deepcopy(base)  # nnsight keeps what it changes
        try:
            calls[name] = TOOLS[name](model, inputs, sites, reduce)
            for _ in range(3):
                calls[name]()
        except ImportError:
            print(f"{name} is not installed: left out", file=sys.stderr)
            calls.pop(name, None)
    taken = run_rounds(calls, pairs, where)
    found = {}
    by_tool = neighbour_ratios(taken)
    for name, ratios in by_tool.items():
        low, high = bootstrap(ratios, np.median)
        found[name] = {"value": float(np.median(ratios)), "low": low, "high": high, "n": len(ratios),
                       "seconds": float(np.median([taken_s for tool, taken_s in taken if tool == name])),
                       "peak_mb": peak_mb(geometry, sites, reduce, name, calls[name], where)}  # fmt: skip
        if name not in ("none", "ditlens") and "ditlens" in by_tool:
            found[name] |= compared(by_tool["ditlens"], ratios)
    return found


def compared(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """The ratio of ditlens over another tool: the median over rounds, and its interval."""
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    low, high = bootstrap(ratios, np.median)
    return {"ditlens": float(np.median(ratios)), "ditlens_low": low, "ditlens_high": high}


def run_rounds(
    calls: dict[str, Callable[[], Any]], pairs: int, where: torch.device
) -> list[tuple[str, float]]:
    """Time every tool once in each round, in an order drawn anew, always between two runs without capture.

    Returns:
        (tool, seconds) of every run, in their order; every other one is "none".
    """
    draw, tools = random.Random(0), [name for name in calls if name != "none"]
    taken = [("none", seconds(calls["none"], where))]
    for i in range(pairs):
        draw.shuffle(tools)
        for name in tools:
            taken += [(each, seconds(calls[each], where)) for each in (name, "none")]
        print(f"\r{i + 1}/{pairs} rounds", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return taken


def neighbour_ratios(taken: Sequence[tuple[str, float]]) -> dict[str, list[float]]:
    """Each run's time over the mean of the two runs without capture beside it, so that slow drift cancels.

    Args:
        taken: From `run_rounds`.

    Returns:
        The ratios by tool. Those of "none", each over the two next of its kind, show how far equal runs differ.
    """
    plain_runs = [time_ for name, time_ in taken if name == "none"]
    neighbours = zip(plain_runs, plain_runs[1:], plain_runs[2:], strict=False)
    ratios = {"none": [2 * middle / (before + after) for before, middle, after in neighbours]}
    for i in range(1, len(taken) - 1, 2):
        name, time_ = taken[i]
        ratios.setdefault(name, []).append(2 * time_ / (taken[i - 1][1] + taken[i + 1][1]))
    return ratios


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


def peak_mb(
    geometry: str, sites: Sites, reduce: str | None, tool: str, call: Callable[[], Any], where: torch.device
) -> float:
    """Most memory that a tool takes in one forward call, in MB."""
    if where.type == "cuda":
        torch.cuda.reset_peak_memory_stats(where)
        call()
        return torch.cuda.max_memory_allocated(where) / 1e6
    with multiprocessing.get_context("spawn").Pool(1) as pool:  # a process of its own: nothing else counts
        return pool.apply(resident_mb, (geometry, sites, reduce, tool))


@torch.no_grad()
def resident_mb(geometry: str, sites: Sites, reduce: str | None, tool: str) -> float:
    """Peak of this process's resident memory during the second call of a tool, in MB."""
    model, inputs = GEOMETRIES[geometry].make(torch.device("cpu"))
    call = TOOLS[tool](model, inputs, sites, reduce)
    call()
    restart_peak()
    call()
    return resident_peak() / 1e6


def restart_peak() -> None:
    """Let the count of `resident_peak` begin anew; only Linux can."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def resident_peak() -> float:
    """Largest resident memory of this process, in bytes."""
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return float(line.split()[1]) * 1024
    import resource

    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # macOS counts bytes


def overhead_cpu(options: argparse.Namespace) -> dict[str, Any]:
    """`overhead_cpu_ratio`: every block, both streams, beside the peers."""
    every = overhead("small", OUT, None, options.pairs, "cpu", list(TOOLS))
    four = overhead("small", FOUR, "mean", options.pairs, "cpu", list(TOOLS))
    none, mine = every["none"], every["ditlens"]
    peers = ", ".join(
        f"{name} {r['value']:.3f} (ditlens over it {r['ditlens']:.3f}, {r['ditlens_low']:.3f} to "
        f"{r['ditlens_high']:.3f})"
        for name, r in every.items()
        if name not in ("none", "ditlens")
    )
    note = (
        f"12 blocks, 256 + 77 tokens, both streams of all blocks; {none['seconds']:.2f} s without; "
        f"peers: {peers} (pyvene reads the text stream only); equal runs differ by {none['low'] - 1:+.1%} to "
        f"{none['high'] - 1:+.1%}; {mine['peak_mb'] - none['peak_mb']:.0f} MB more memory"
    )
    parts = named("all blocks", every) | named("4 blocks, mean", four)
    return {"overhead_cpu_ratio": headline(mine, note, parts)}


def overhead_gpu(options: argparse.Namespace) -> dict[str, Any]:
    """`overhead_gpu_ratio`: SD3.5-medium's geometry at 1024 x 1024, four blocks, means; FLUX.1's beside it."""
    if not torch.cuda.is_available():
        raise NoGpuError("no GPU was at hand")
    tools = ["none", "ditlens", "hooks"]
    parts = {}
    for geometry, few in (("SD3.5-medium", "joint.{2,8,14,20}.{text,image}.out"), ("FLUX.1", FOUR_FLUX)):
        every = "*.*.{text,image}.out"
        try:
            for what, sites, reduce in (("4 blocks, mean", few, "mean"), ("all blocks", every, None)):
                found = overhead(geometry, sites, reduce, options.pairs, "cuda", tools)
                parts |= named(f"{geometry}, {what}", found)
                torch.cuda.empty_cache()
        except torch.cuda.OutOfMemoryError:
            print(f"{geometry} does not fit into this GPU: left out", file=sys.stderr)
    first = "SD3.5-medium, 4 blocks, mean"
    if f"{first}, ditlens" not in parts:
        raise NoGpuError("no GPU with enough memory was at hand")
    without = parts[f"{first}, none"]["seconds"] * 1000
    note = f"SD3.5-medium's geometry, 4 blocks x mean, bf16, batch 2, {without:.0f} ms without capture"
    return {"overhead_gpu_ratio": headline(parts[f"{first}, ditlens"], note, parts)}


def named(what: str, found: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The parts of a result, named by what was captured and the tool."""
    return {f"{what}, {name}": result for name, result in found.items()}


def headline(mine: dict[str, Any], note: str, parts: dict[str, Any]) -> dict[str, Any]:
    """A result with one part as its value."""
    return {k: mine[k] for k in ("value", "low", "high", "n")} | {"unit": "x", "note": note, "parts": parts}


def command(names: Sequence[str], options: argparse.Namespace) -> str:
    """What to type to measure some keys again, with the counts that were chosen for them."""
    chosen = {
        "overhead_cpu_ratio": ("pairs",), "overhead_gpu_ratio": ("pairs",), "study_memory_growth_mb": ("prompts",),
        "kill_lost_or_doubled": ("kills",), "two_worker_speedup": ("worker_prompts", "worker_trials"),
    }.get(names[0], ())  # fmt: skip
    words = [f"--{name.replace('_', '-')} {getattr(options, name)}" for name in chosen
             if getattr(options, name) != COUNTS[name]]  # fmt: skip
    return f'make bench-capture ARGS="{" ".join(words)}"' if words else "make bench-capture"


class NoGpuError(Exception):
    """There is no GPU to measure on."""


def not_measured(why: str) -> dict[str, Any]:
    """A result that says why there is none."""
    return {"value": None, "n": 0, "unit": "x", "note": f"not measured: {why}"}


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
    plan = studies.plan_study(model, prompts(options.prompts), [0], OUT, sampling_steps=8)
    process, sizes = psutil.Process(), []
    with tempfile.TemporaryDirectory() as folder:
        study = studies.run_study(
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
            return [sys.executable, "-m", "ditlens", "capture", "--prompts", str(texts), "--seeds", "0:2",
                    "--sites", OUT, "--sampling-steps", "8", "--device", "cpu",
                    "--out", str(folder / out)]  # fmt: skip

        started = time.perf_counter()
        subprocess.run(arguments("whole"), check=True, capture_output=True)
        whole, length = dl.open_study(folder / "whole"), time.perf_counter() - started
        for trial in range(options.kills):
            out = f"trial{trial}"
            process = subprocess.Popen(arguments(out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(generator.uniform(0.4, 1.0) * length)
            process.send_signal(signal.SIGKILL)
            process.wait()
            before = {p.name: p.stat().st_mtime_ns for p in (folder / out / "items").glob("*.safetensors")}
            survived.append(len(before))
            subprocess.run(arguments(out), check=True, capture_output=True)
            study = dl.open_study(folder / out)
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
                command = [sys.executable, "-m", "ditlens", "capture", "--prompts", str(texts), "--seeds", "0",
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


COUNTS = {"pairs": 20, "prompts": 200, "kills": 20, "worker_prompts": 120, "worker_trials": 3}
"""How often what is measured, by default."""

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
    helps = ("runs of each tool, for each overhead", "prompts of the memory study", "kills",
             "prompts of the worker study", "repetitions of it")  # fmt: skip
    for (name, count), what in zip(COUNTS.items(), helps, strict=True):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=count, help=f"{what} ({count})")
    parser.add_argument("--out", type=Path, default=RESULTS / "capture.json")
    options = parser.parse_args(argv)
    if unknown := set(options.only) - set(keys):
        parser.error(f"unknown key {', '.join(sorted(unknown))}; there are {', '.join(keys)}")
    results = read_results(options.out)
    code = 0
    for names, measure in GROUPS.items():
        if not set(names) & set(options.only):
            continue
        print(f"{', '.join(names)} ...", file=sys.stderr)
        try:
            measured = measure(options)
        except NoGpuError as error:
            print(f"not measured: {error}", file=sys.stderr)
            if any(results.get(name, {}).get("value") is not None for name in names):
                continue  # measured before, where there was one
            measured = dict.fromkeys(names, not_measured(str(error)))
        except RuntimeError as error:
            print(f"not measured: {error}", file=sys.stderr)
            code = 1
            continue
        on_gpu = names == ("overhead_gpu_ratio",) and torch.cuda.is_available()
        found = {name: measured[name] for name in names}
        results = record(options.out, found, command(names, options), "cuda" if on_gpu else "cpu", order=keys)
    for key in keys:
        if key in results:
            value, unit, note = (results[key][name] for name in ("value", "unit", "note"))
            print(f"{key}: {note}" if value is None else f"{key}: {shown(value)} {unit}  ({note})")
    return code


if __name__ == "__main__":
    sys.exit(main())
