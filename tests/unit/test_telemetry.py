"""Nothing reports anywhere: onnxruntime, which diffusers imports where it is installed, is told not to."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


def test_onnxruntime_keeps_no_book(tmp_path):
    pytest.importorskip("onnxruntime")
    code = "import ditlens, onnxruntime; onnxruntime.SessionOptions()"
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {"XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert not [
        path for path in tmp_path.rglob("*") if "onnxruntime" in path.name or "Microsoft" in path.name
    ]
