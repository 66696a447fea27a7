"""A lens and editor for diffusion transformers.

Importing ditlens is instant: a name below is imported from its module when it is first used, and torch and
diffusers come with it only then.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING

from ditlens.version import __version__ as __version__

if TYPE_CHECKING:
    from ditlens import course as course
    from ditlens import errors as errors
    from ditlens import flow as flow
    from ditlens.analysis.ablation import Ablation as Ablation
    from ditlens.analysis.ablation import knock_out as knock_out
    from ditlens.analysis.decompose import PCA as PCA
    from ditlens.analysis.design import design as design
    from ditlens.analysis.directions import Direction as Direction
    from ditlens.analysis.directions import direction as direction
    from ditlens.analysis.entanglement import Entanglement as Entanglement
    from ditlens.analysis.entanglement import entanglement as entanglement
    from ditlens.analysis.geometry import gram as gram
    from ditlens.analysis.leakage import Leakage as Leakage
    from ditlens.analysis.leakage import leakage as leakage
    from ditlens.analysis.neighbours import UMAP as UMAP
    from ditlens.analysis.patch_maps import PatchMaps as PatchMaps
    from ditlens.analysis.patch_maps import locate as locate
    from ditlens.analysis.patching import CausalMap as CausalMap
    from ditlens.analysis.patching import patch as patch
    from ditlens.analysis.probes import Probe as Probe
    from ditlens.analysis.probes import probe as probe
    from ditlens.analysis.projection import Projection as Projection
    from ditlens.analysis.report.findings import Report as Report
    from ditlens.analysis.report.run import report as report
    from ditlens.analysis.same_effect import orthogonal_probes as orthogonal_probes
    from ditlens.analysis.same_effect import same_effect as same_effect
    from ditlens.analysis.sde import SDE as SDE
    from ditlens.analysis.sde import sde as sde
    from ditlens.analysis.steering import steer as steer
    from ditlens.analysis.untrained import untrained as untrained
    from ditlens.description import Description as Description
    from ditlens.ems.edit import Edit as Edit
    from ditlens.ems.edit import edit as edit
    from ditlens.ems.edit import edit_steps as edit_steps
    from ditlens.ems.extract import extract as extract
    from ditlens.ems.judge import check_image as check_image
    from ditlens.ems.manipulate import manipulate as manipulate
    from ditlens.ems.methods import DDS as DDS
    from ditlens.ems.methods import FLOWEDIT as FLOWEDIT
    from ditlens.ems.methods import DeltaVelocity as DeltaVelocity
    from ditlens.ems.methods import Distillation as Distillation
    from ditlens.ems.methods import OdeEdit as OdeEdit
    from ditlens.lens.cache import LatentCache as LatentCache
    from ditlens.lens.captures import capture as capture
    from ditlens.lens.estimates import Estimate as Estimate
    from ditlens.lens.estimates import estimate as estimate
    from ditlens.lens.hooks import hooks_on as hooks_on
    from ditlens.lens.interventions import ablate as ablate
    from ditlens.lens.interventions import add_vector as add_vector
    from ditlens.lens.interventions import bypass as bypass
    from ditlens.lens.interventions import intervene as intervene
    from ditlens.lens.interventions import replace_with as replace_with
    from ditlens.lens.interventions import scale as scale
    from ditlens.lens.listing import sites as sites
    from ditlens.lens.spans import words as words
    from ditlens.lens.study.store import Study as Study
    from ditlens.lens.study.store import open_study as open_study
    from ditlens.metrics.disentanglement import disentanglement as disentanglement
    from ditlens.models.embedding import TextEmbedding as TextEmbedding
    from ditlens.models.loading import load as load
    from ditlens.models.loading import wrap as wrap
    from ditlens.models.model import Model as Model
    from ditlens.views.editor.open import Editor as Editor
    from ditlens.views.explorer.open import Explorer as Explorer
    from ditlens.views.plots import plot_attention as plot_attention
    from ditlens.views.projections import plot_scree as plot_scree
    from ditlens.views.projections import plot_trajectory as plot_trajectory
    from ditlens.views.scatter import plot_projection as plot_projection
    from ditlens.views.token_maps import plot_token_map as plot_token_map
    from ditlens.views.words import plot_words as plot_words

_PUBLIC = {
    "ditlens.views.editor.open": ("Editor",),
    "ditlens.views.explorer.open": ("Explorer",),
    "ditlens.analysis.ablation": ("Ablation", "knock_out"),
    "ditlens.analysis.patch_maps": ("PatchMaps", "locate"),
    "ditlens.analysis.patching": ("CausalMap", "patch"),
    "ditlens.analysis.leakage": ("Leakage", "leakage"),
    "ditlens.analysis.report.findings": ("Report",),
    "ditlens.analysis.report.run": ("report",),
    "ditlens.analysis.sde": ("SDE", "sde"),
    "ditlens.analysis.decompose": ("PCA",),
    "ditlens.analysis.neighbours": ("UMAP",),
    "ditlens.analysis.projection": ("Projection",),
    "ditlens.analysis.entanglement": ("Entanglement", "entanglement"),
    "ditlens.analysis.directions": ("Direction", "direction"),
    "ditlens.analysis.geometry": ("gram",),
    "ditlens.analysis.same_effect": ("orthogonal_probes", "same_effect"),
    "ditlens.analysis.steering": ("steer",),
    "ditlens.analysis.design": ("design",),
    "ditlens.analysis.probes": ("Probe", "probe"),
    "ditlens.analysis.untrained": ("untrained",),
    "ditlens.description": ("Description",),
    "ditlens.ems.edit": ("Edit", "edit", "edit_steps"),
    "ditlens.ems.extract": ("extract",),
    "ditlens.ems.judge": ("check_image",),
    "ditlens.ems.manipulate": ("manipulate",),
    "ditlens.ems.methods": ("DDS", "FLOWEDIT", "DeltaVelocity", "Distillation", "OdeEdit"),
    "ditlens.lens.cache": ("LatentCache",),
    "ditlens.lens.captures": ("capture",),
    "ditlens.lens.estimates": ("Estimate", "estimate"),
    "ditlens.lens.hooks": ("hooks_on",),
    "ditlens.lens.interventions": ("ablate", "add_vector", "bypass", "intervene", "replace_with", "scale"),
    "ditlens.lens.listing": ("sites",),
    "ditlens.lens.spans": ("words",),
    "ditlens.lens.study.store": ("Study", "open_study"),
    "ditlens.metrics.disentanglement": ("disentanglement",),
    "ditlens.models.embedding": ("TextEmbedding",),
    "ditlens.models.loading": ("load", "wrap"),
    "ditlens.models.model": ("Model",),
    "ditlens.views.plots": ("plot_attention",),
    "ditlens.views.projections": ("plot_scree", "plot_trajectory"),
    "ditlens.views.scatter": ("plot_projection",),
    "ditlens.views.token_maps": ("plot_token_map",),
    "ditlens.views.words": ("plot_words",),
}
if sys.platform == "linux":  # torch reads it when it is loaded; threads that spin while they wait take, on a
    os.environ.setdefault(
        "OMP_WAIT_POLICY", "passive"
    )  # busy machine, the cores from those that they wait for

# onnxruntime, which diffusers imports where it is installed, would report to its maker.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_HOME = {name: module for module, names in _PUBLIC.items() for name in names}
_MODULES = ("course", "errors", "flow")

__all__ = ["__version__", *_HOME, *_MODULES]


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    if name not in _HOME:
        raise AttributeError(
            f"module {__name__!r} has no attribute {name!r}; dir({__name__}) lists its names"
        )
    value = globals()[name] = getattr(import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
