"""Recipes that train every file of ``data/models/portraits`` from nothing, on CPU or GPU."""

from __future__ import annotations

from ditlens.train.run import STAGES as STAGES
from ditlens.train.run import run as run
