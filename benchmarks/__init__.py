"""The benchmarks of ditlens. Run one at the root of the repository: ``python -m benchmarks.model``."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
"""Results files: see `benchmarks.report`."""
