"""Figures: the right axes, labels and data; no model is needed."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from PIL import Image

from ditlens.description import Description
from ditlens.ems.edit import Edit, Sweep
from ditlens.errors import SettingError
from ditlens.views import plots
from ditlens.worlds.portraits.attributes import attribute, describe_values, neutral
from ditlens.worlds.portraits.world import Portraits

pytestmark = pytest.mark.usefixtures("wrong_types")  # plans are doubles

SOURCE = "young person, slight smile, no glasses"
TARGET = "young person, big smile, round glasses"
CHANGES = {"smile": "a big smile", "glasses": "round glasses"}
WISH = "make the smile bigger and add round glasses"
DEGREES = [1.0, 0.0, 0.5, 2.0]
"""Out of order on purpose."""


def picture(value: int) -> Image.Image:
    return Image.new("RGB", (16, 16), (value, value, value))


def make(degree: float = 1.0, *, oracle: bool = True, instruction: str = WISH, **options) -> Edit:
    """An edit as a model would give it: the smile grows by 0.3 per degree, glasses come at 0.6, hats drift."""
    values = {"smile": 0.3 + 0.3 * degree, "glasses": "round" if degree > 0.6 else "none"}
    drifted = {"head_tilt": 0.8 if degree == 2 else 0.0}
    result = Edit(
        image=picture(100 + int(50 * degree)), source_image=picture(110), reconstruction=picture(100),
        description=Description(SOURCE, TARGET, CHANGES, "typist"), degree=degree, seconds=1.0,
        recipe={"instruction": instruction}, before=describe_values(neutral(smile=0.3)) if oracle else None,
        after=describe_values(neutral(**values, **drifted)) if oracle else None, evaluations=4,
        latents=torch.zeros(1),
        plan=SimpleNamespace(mask=None, model=SimpleNamespace(world=Portraits() if oracle else None)),
    )  # fmt: skip
    return dataclasses.replace(result, **options)


def sweep(degrees: list[float], **options) -> Sweep:
    return Sweep(degrees, [make(degree, **options) for degree in degrees])


def texts(ax) -> list[str]:
    return [text.get_text() for text in ax.texts]


@pytest.fixture
def figure(wrong_types):
    return plots.plot_sweep(sweep(DEGREES))


def test_sweep_has_a_picture_per_degree_in_order(figure):
    shown = figure.axes[: len(DEGREES)]
    assert [ax.get_title() for ax in shown] == ["degree 0", "0.5", "1", "2"]
    assert [int(ax.images[0].get_array()[0, 0, 0]) for ax in shown] == [100, 125, 150, 200]
    assert figure.get_suptitle() == f"“{WISH}”"
    assert len(figure.axes) == len(DEGREES) + 3, "and three rows below: smile, glasses, drift"


def test_sweep_shows_what_the_oracle_read(figure):
    smile = figure.axes[4]
    line = smile.lines[-1]
    assert line.get_xdata().tolist() == [0, 0.5, 1, 2]
    assert line.get_ydata() == pytest.approx([0.3, 0.45, 0.6, 0.9])
    assert smile.get_ylabel() == "smile\n(-1 to 1)" and smile.get_ylim() == (-1, 1)


def test_sweep_shows_levels_as_bands_and_words(figure):
    smile, levels = figure.axes[4], attribute("smile").levels
    assert [(p.get_y(), p.get_y() + p.get_height()) for p in smile.patches] == [
        pytest.approx((level.low, level.high)) for level in levels
    ]
    green = [to_hex(p.get_facecolor()) == plots.GREEN.lower() for p in smile.patches]
    assert green == [level.name == "a big smile" for level in levels]
    (words,) = smile.child_axes
    assert [text.get_text() for text in words.get_yticklabels()] == [level.name for level in levels]
    assert words.get_yticks().tolist() == pytest.approx([level.center for level in levels])


def test_sweep_shows_categories_as_runs(figure):
    glasses = figure.axes[5]
    assert texts(glasses) == ["none", "round"]
    assert glasses.get_ylabel() == "glasses" and len(glasses.get_yticks()) == 0
    none, with_round = glasses.patches
    assert none.get_x() + none.get_width() == with_round.get_x() == 0.75
    assert (none.get_x(), with_round.get_x() + with_round.get_width()) == figure.axes[-1].get_xlim()


def test_sweep_shows_drift_over_the_degrees(figure):
    drift = figure.axes[6]
    others = 16  # 18 attributes, two of them asked for; the head's tilt has a range of 2
    assert drift.lines[0].get_ydata().tolist() == pytest.approx([0, 0, 0, 0.4 / others])
    assert drift.get_ylabel() == "drift of others\n(share of range)"
    assert drift.get_xlabel() == "editing degree (0: reconstruction, 1: target text)"
    assert [tick.get_text() for tick in drift.get_xticklabels()] == ["0", "0.5", "1", "2"]
    low, high = drift.get_xlim()
    assert low < 0 and high > 2


def test_sweep_without_an_oracle_is_pictures_only():
    edits = [make(d, oracle=False, instruction="") for d in (0.0, 1.0)]
    figure = plots.plot_sweep(Sweep([0.0, 1.0], edits))
    assert [ax.get_title() for ax in figure.axes] == ["degree 0", "1"]
    assert figure.get_suptitle() == "edit at several degrees (texts: typist)"


def test_sweep_of_one_degree():
    figure = plots.plot_sweep(sweep([1.0]))
    assert figure.axes[-1].get_xlim() == (0.5, 1.5)
    assert texts(figure.axes[2]) == ["round"]


def test_sweep_that_changes_nothing_known_shows_drift():
    same = Description(SOURCE, SOURCE, {}, "by hand")
    figure = plots.plot_sweep(Sweep([0.0, 1.0], [make(d, description=same) for d in (0.0, 1.0)]))
    assert len(figure.axes) == 3
    assert figure.axes[-1].lines[0].get_ydata()[1] > 0, "now smile and glasses are drift"


def test_edit_has_four_panels_and_a_colour_bar():
    figure = plots.plot_edit(make(1.0))
    names = [ax.get_title() for ax in figure.axes[:4]]
    assert names == ["source", "reconstruction\n(degree 0)", "result\n(degree 1)", "difference of\nthese two"]
    grey = [int(ax.images[0].get_array()[0, 0, 0]) for ax in figure.axes[:3]]
    assert grey == [110, 100, 150]
    difference = figure.axes[3].images[0]
    assert np.allclose(difference.get_array(), 50 / 255), "to the reconstruction, not to the source"
    assert difference.get_cmap().name == "cividis"
    assert figure.axes[4].get_ylabel() == "mean |change| of RGB (0 to 1)"
    assert figure.get_suptitle() == f"“{WISH}”"


def test_edit_without_a_difference_keeps_a_scale():
    difference = plots.plot_edit(make(0.0)).axes[3].images[0]
    assert float(difference.get_array().max()) == 0 and difference.get_clim() == (0, 0.05)


def test_portraits_are_laid_out_in_rows():
    figure = plots.plot_portraits([picture(i) for i in range(7)], list("abcdefg"), columns=3, title="seven")
    assert [ax.get_title() for ax in figure.axes] == list("abcdefg")
    assert figure.axes[0].get_gridspec().get_geometry() == (3, 3)
    assert figure.get_suptitle() == "seven"


def test_portraits_take_tensors_and_files(tmp_path):
    picture(40).save(tmp_path / "a.png")
    figure = plots.plot_portraits([tmp_path / "a.png", torch.ones(3, 8, 8)])
    assert [int(ax.images[0].get_array()[0, 0, 0]) for ax in figure.axes] == [40, 255]


@pytest.mark.parametrize(
    ("count", "labels", "columns", "message"),
    [
        (0, [], 5, "images is .*; give a list of images"),
        (1, [], 0, "columns is 0; give a whole number from 1"),
        (2, ["a"], 5, "Got 1 labels for 2 images; give one each, or none."),
    ],
)
def test_portraits_refuse(count, labels, columns, message):
    with pytest.raises(SettingError, match=message):
        plots.plot_portraits([picture(0)] * count, labels, columns)


def test_figures_show_in_a_notebook_without_pyplot():
    code = (
        "import sys; from PIL import Image; from ditlens.views.plots import plot_portraits;"
        "jpeg = plot_portraits([Image.new('RGB', (8, 8))])._repr_jpeg_();"
        "assert jpeg.startswith(b'\\xff\\xd8'), jpeg[:9]; assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


ONCE = """
import matplotlib.pyplot as plt
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.pylabtools import select_figure_formats
from IPython.utils.capture import capture_output

from ditlens.views.plots import NotebookFigure

shell = InteractiveShell.instance()
select_figure_formats(shell, {"png"})  # as when pyplot is loaded
own, usual = NotebookFigure(), plt.figure()
for figure in (own, usual):
    figure.subplots()
with capture_output() as said:
    returned, _ = shell.display_formatter.format(own)
print(list(returned), [sorted(each.data) for each in said.outputs])
print(sorted(shell.display_formatter.format(usual)[0]))
"""


def test_figures_show_once_where_pyplot_is_loaded():
    done = subprocess.run([sys.executable, "-c", ONCE], capture_output=True, text=True)
    shown = done.stdout.splitlines()
    assert shown == ["[] [['image/jpeg', 'text/plain']]", "['image/png', 'text/plain']"], done.stderr


# --- attention ---------------------------------------------------------------------------------------------


@pytest.fixture
def attention():
    import torch

    from ditlens.lens.cache import CachedItem, CacheKey, LatentCache

    maps = torch.rand(1, 6, 4, generator=torch.Generator().manual_seed(0))
    return LatentCache(
        {CacheKey(f"joint.{b}.image.attn.to_text", s, "cond"): maps * (b + 1) for b in range(2) for s in (0, 9)},
        [CachedItem(0, 0, "a big smile")], {0: (2, 3)}, spans=lambda prompt, word: {"tokenizer": [2, 3]},
    )  # fmt: skip


def test_attention_has_a_map_per_block_and_step(attention):
    figure = plots.plot_attention(attention, "smile", image=picture(9))
    titles = [ax.get_title() for ax in figure.axes if ax.get_title()]
    assert titles == ["image at the end", "block 0", "block 1"]
    assert [ax.get_ylabel() for ax in figure.axes if ax.get_ylabel()][:2] == ["step 0", "step 9"]
    shown = [ax.images[0].get_array() for ax in figure.axes if ax.get_title() == "block 1"][0]
    expected = attention["joint.1.image.attn.to_text", 0][0, :, 2:].sum(-1).reshape(2, 3)
    np.testing.assert_allclose(shown, expected)
    assert "smile" in figure.get_suptitle()


def test_attention_needs_maps(attention):
    from ditlens.lens.cache import LatentCache

    with pytest.raises(SettingError, match="Capture 'joint"):
        plots.plot_attention(LatentCache())
