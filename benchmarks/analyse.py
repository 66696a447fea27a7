"""Measure what the analysis finds and how fast: `make bench-analyse`.

Writes ``benchmarks/results/analyse.json`` after every key; with ``--only``, the other keys keep what was measured
last. A key is a function of `MEASURES`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from benchmarks import RESULTS, bias, findings, one_liners, patch_maps, probing, steering, streaming_pca
from benchmarks.faults import outcomes
from benchmarks.keys import MeasureError, measure_keys
from benchmarks.report import Result

KNOWN_VALUES = "tests/unit/test_known_values.py"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code: 1 if something could not be measured."""
    about = "Measure what the analysis finds and how fast."
    return measure_keys(RESULTS / "analyse.json", MEASURES, about, argv)


def metrics_known_values() -> Result:
    """Known values of the metrics of disentanglement that the metrics find."""
    found = outcomes(KNOWN_VALUES)
    if not found:
        raise MeasureError(f"no test of {KNOWN_VALUES} ran")
    missed = [name.partition("::")[2] for name, passed in found.items() if not passed]
    note = (
        "values of MIG, DCI, SAP, modularity, explicitness, InfoMEC, FactorVAE and BetaVAE that are found: those "
        "derived for ideal, permuted, rotated, random, doubled and incomplete codes, and those of published "
        f"implementations for mixed codes; not found: {', '.join(missed) or 'none'}"
    )
    return {"value": 1 - len(missed) / len(found), "n": len(found), "unit": "share", "note": note}


MEASURES: dict[str, Callable[[], Result]] = {
    "metrics_known_values": metrics_known_values,
    "streaming_pca_speedup": streaming_pca.measure,
    "bias_found": bias.measure,
    "steer_drift": steering.steer_drift,
    "probe_r2": probing.probe_r2,
    "probe_margin": probing.probe_margin,
    "patch_maps": patch_maps.patch_maps,
    "causal_map_seconds": findings.causal_map_seconds,
    "findings_decided": findings.findings_decided,
    "one_liners": one_liners.measure,
}
"""Every key, and how it is measured."""

if __name__ == "__main__":
    sys.exit(main())
