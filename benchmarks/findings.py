"""The report of portraits (`findings_decided`), and the time of a causal map (`causal_map_seconds`)."""

from __future__ import annotations

import time

import ditlens as dl
from benchmarks import ROOT
from benchmarks.report import Result, load_note
from ditlens.analysis.report.findings import CLAIMS, UNDECIDED

FOLDER = ROOT / "outputs" / "bench-report"


def findings_decided() -> Result:
    """How many of the paper's findings have a verdict that is not "undecided"; parts say which, and why."""
    model, twin = (dl.load(name, device="cpu") for name in ("portraits", "portraits-twin"))
    started, processor = time.monotonic(), time.process_time()
    made = dl.report(model, FOLDER, twin=twin, progress=False)
    minutes = (time.monotonic() - started) / 60
    verdicts = {str(number): made.verdict(number) for number in CLAIMS}
    note = (
        f"each measured with its nulls: {', '.join(f'{n} {v}' for n, v in verdicts.items())}; report in "
        f"{minutes:.0f} "
        f"minutes, {(time.process_time() - processor) / 60:.0f} of processor time; {load_note()}"
    )
    parts = {each.name: each.verdict for each in made.evidence}
    value = sum(verdict != UNDECIDED for verdict in verdicts.values())
    return {"value": value, "n": len(verdicts), "unit": "findings", "note": note, "parts": parts}


def causal_map_seconds() -> Result:
    """Time of a 6 x 5 map of one attribute with its controls, and its processor time."""
    model = dl.load("portraits", device="cpu")
    started, processor = time.monotonic(), time.process_time()
    made = dl.patch(model, measure="smile")
    seconds, busy = time.monotonic() - started, time.process_time() - processor
    rows, columns = made.table().shape
    note = (
        f"{rows} blocks x {columns} stretches of steps, {made.n} pairs, two controls; {busy:.0f} s of processor "
        f"time; {load_note()}"
    )
    return {"value": seconds, "n": 1, "unit": "s", "note": note}
