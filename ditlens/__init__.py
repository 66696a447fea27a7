"""A lens and editor for diffusion transformers.

Importing ditlens is instant: a name below is imported from its module when it is first used, and torch and
diffusers come with it only then.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ditlens import errors as errors
    from ditlens import flow as flow
    from ditlens.cache import LatentCache as LatentCache
    from ditlens.captures import capture as capture
    from ditlens.captures import sites as sites
    from ditlens.captures import words as words
    from ditlens.ems.edit import Edit as Edit
    from ditlens.ems.edit import edit as edit
    from ditlens.ems.edit import edit_steps as edit_steps
    from ditlens.ems.engine import DDS as DDS
    from ditlens.ems.engine import FLOWEDIT as FLOWEDIT
    from ditlens.ems.engine import DeltaVelocity as DeltaVelocity
    from ditlens.ems.extract import Description as Description
    from ditlens.ems.extract import extract as extract
    from ditlens.ems.judge import check as check
    from ditlens.ems.manipulate import TextEmbedding as TextEmbedding
    from ditlens.ems.manipulate import manipulate as manipulate
    from ditlens.estimates import Estimate as Estimate
    from ditlens.estimates import estimate as estimate
    from ditlens.hooks import hooks_on as hooks_on
    from ditlens.interventions import ablate as ablate
    from ditlens.interventions import add as add
    from ditlens.interventions import bypass as bypass
    from ditlens.interventions import intervene as intervene
    from ditlens.interventions import put as put
    from ditlens.interventions import scale as scale
    from ditlens.model import Model as Model
    from ditlens.model import load as load
    from ditlens.store import Study as Study
    from ditlens.store import open as open  # noqa: A004

__version__ = "0.1.0"

_PUBLIC = {
    "ditlens.captures": ("capture", "sites", "words"),
    "ditlens.cache": ("LatentCache",),
    "ditlens.estimates": ("estimate", "Estimate"),
    "ditlens.hooks": ("hooks_on",),
    "ditlens.store": ("open", "Study"),
    "ditlens.interventions": ("intervene", "add", "scale", "put", "ablate", "bypass"),
    "ditlens.model": ("load", "Model"),
    "ditlens.ems.edit": ("edit", "edit_steps", "Edit"),
    "ditlens.ems.judge": ("check",),
    "ditlens.ems.extract": ("extract", "Description"),
    "ditlens.ems.manipulate": ("manipulate", "TextEmbedding"),
    "ditlens.ems.engine": ("DeltaVelocity", "FLOWEDIT", "DDS"),
}
_HOME = {name: module for module, names in _PUBLIC.items() for name in names}
_MODULES = ("errors", "flow")

__all__ = ["__version__", *_HOME, *_MODULES]


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; dir({__name__}) lists them all")
    value = globals()[name] = getattr(import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
