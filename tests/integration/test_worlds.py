"""A second world is added without touching `ems`, `bench` or `views`: one of two attributes, made here."""

from __future__ import annotations

import math

import pytest
import torch

import ditlens as dl
from ditlens import images
from ditlens.bench import runner
from ditlens.bench.entries import choose
from ditlens.bench.suites import Suite
from ditlens.description import Description
from ditlens.ems.methods import OdeEdit
from ditlens.errors import CaptionError, ModelError, SettingError
from ditlens.models.model import Model
from ditlens.views import plots
from ditlens.worlds.portraits.world import Portraits
from ditlens.worlds.world import Categorical, Continuous, Level, SuiteItem, World, names, open_world

LIGHT = Continuous(
    "light", 0.0, 1.0, 0.5,
    (
        Level("dark", 0.0, 0.4, ("dark",)), Level("grey", 0.4, 0.6, ("grey",)),
        Level("bright", 0.6, 1.0, ("bright",)),
    ),
)  # fmt: skip
TINT = Categorical("tint", ("warm", "cold"), (("warm",), ("cold",)))
QUICK = OdeEdit("ems", source_guidance=2.0, target_guidance=2.0, steps=3)


class Typist:
    """Writes two words: how light an image is, and its tint."""

    name = "typist"

    def __init__(self, world: Fields) -> None:
        self.world = world

    def describe(self, image):
        values = self.world.measure(images.to_tensor(image))[0]
        return f"{LIGHT.levels[LIGHT.level_of(values['light'])].name} {values['tint']}"

    def extract(self, image, instruction):
        return Description(*self.world.reword(self.describe(image), instruction), {}, self.name)


class Fields:
    """Plain fields of colour: how light they are, and whether red or blue prevails."""

    name = "fields"
    attributes = {"light": LIGHT, "tint": TINT}  # noqa: RUF012
    networks = {}  # noqa: RUF012

    @property
    def describer(self):
        return Typist(self)

    def measure(self, pixels):
        red, _, blue = pixels.mean((2, 3)).T
        tints = ["warm" if warm else "cold" for warm in red > blue]
        return [{"light": float(x), "tint": t} for x, t in zip(pixels.mean((1, 2, 3)), tints, strict=True)]

    def redraw(self, pixels):
        return pixels.mean((2, 3), keepdim=True).expand_as(pixels)

    def sample(self, count, seed):
        found = torch.rand(count, 2, generator=torch.Generator().manual_seed(seed)).tolist()
        return [{"light": light, "tint": TINT.values[tint > 0.5]} for light, tint in found]

    def draw(self, values, side):
        shades = torch.tensor(
            [[v["light"] + d * (v["tint"] == "warm") for d in (0.1, 0, -0.1)] for v in values]
        )
        return shades[..., None, None].expand(-1, -1, side, side).clamp(0, 1)

    def hidden(self, values):
        return set()

    def caption(self, levels, seed=None):
        words = [self.phrase(name, level) for name, level in levels.items()]
        return " ".join(words if seed is None or seed % 2 == 0 else words[::-1])

    def change_mask(self, before, wanted, side):
        return torch.ones(1, 1, side, side)

    def reword(self, source_text, instruction, known=None):
        words = source_text.split()
        found = [w for w in instruction.split() if w in ("dark", "grey", "bright", "warm", "cold")]
        if not found:
            raise CaptionError(f"Nothing in {instruction!r} is an edit of a field. Write 'make it dark'.")
        for word in found:
            words[word in TINT.values] = word
        return source_text, " ".join(words)

    def check_instruction(self, instruction):
        self.reword("grey warm", instruction)
        return []

    def check_caption(self, text):
        return [] if set(text.split()) & {"grey", "warm", "cold"} else [f"A field is not {text!r}."]

    def wanted(self, source_text, target_text):
        levels = [level.name for level in LIGHT.levels]
        new = {"light": levels.index(target_text.split()[0]), "tint": TINT.level_of(target_text.split()[1])}
        pairs = zip(new, source_text.split(), target_text.split(), strict=True)
        return {name: new[name] for name, before, after in pairs if before != after}

    def phrase(self, attribute, level):
        return LIGHT.levels[level].name if attribute == "light" else TINT.values[level]

    def drift(self, before, after, wanted):
        moved = {
            "light": abs(after["light"] - before["light"]),
            "tint": float(before["tint"] != after["tint"]),
        }
        left = [change for name, change in moved.items() if name not in wanted]
        return sum(left) / len(left) if left else 0.0

    def missed(self, after, wanted):
        there = {"light": LIGHT.level_of(after["light"]), "tint": TINT.level_of(after["tint"])}
        return [name for name, level in wanted.items() if there[name] != level]

    def progress(self, before, after, wanted):
        return 1.0 - len(self.missed(after, wanted)) / len(wanted)

    def agreement(self, text, values):
        return float(text.split()[1] == values["tint"])

    def answers(self, image, wanted):
        return math.nan

    def examples(self):
        return {}

    def suite(self, count, split):
        if split != "test":
            raise SettingError(f"Fields have the split test; got {split!r}.")
        image = torch.tensor([0.8, 0.45, 0.4]).reshape(1, 3, 1, 1).expand(1, 3, 128, 128)
        return [
            SuiteItem(
                f"f{k}", "light", "make it dark", "grey warm", "dark warm", lambda: image, None, {"light": 0}
            )
            for k in range(count)
        ]


@pytest.fixture(scope="module")
def model(portraits) -> Model:
    """The tiny model, in another world."""
    world: World = Fields()
    return Model(portraits.pipe, "fields", world=world)


@pytest.fixture(scope="module")
def field() -> torch.Tensor:
    return torch.tensor([0.8, 0.45, 0.4]).reshape(1, 3, 1, 1).expand(1, 3, 128, 128)


def test_an_edit_is_described_measured_and_judged_by_the_world(model, field):
    edit = dl.edit(model, field, "make it dark and cold", degree=1.0, method=QUICK)
    assert (edit.source_text, edit.target_text) == ("grey warm", "dark cold")
    assert (
        edit.description.changes == {"light": "dark", "tint": "cold"}
        and edit.description.describer == "typist"
    )
    assert edit.before["light"] == pytest.approx(0.55, abs=0.01) and edit.before["tint"] == "warm"
    assert edit.missed == Fields().missed(edit.after, {"light": 0, "tint": 1})
    assert edit.drift == 0.0, "both attributes were asked for"
    one = dl.edit(model, field, {"make it dark": 0.5, "make it cold": 1.0}, method=QUICK)
    assert one.recipe["target_texts"] == ["dark warm", "grey cold"]
    by_hand = dl.edit(model, field, "make it cold", source_text="bright warm", method=QUICK)
    assert by_hand.target_text == "bright cold"
    with pytest.raises(CaptionError, match="make it dark"):
        dl.edit(model, field, "add a hat", method=QUICK)


def test_what_the_world_cannot_draw_is_said(model, portraits):
    with pytest.warns(UserWarning, match="A field is not 'a cat'"):
        model.generate("a cat", steps=1)
    with pytest.warns(
        UserWarning, match="Nothing in 'a cat on a bicycle' describes a portrait of this world"
    ):
        portraits.generate("a cat on a bicycle", steps=1)


def test_how_a_wish_is_read_is_said(portraits):
    portrait = portraits.world.redraw(torch.rand(1, 3, 64, 64))[0]
    edit = dl.edit(portraits, portrait, "give her a red silk shrit", method=QUICK)
    assert edit.warnings[:2] == [
        "'shrit' is read as 'shirt'.",
        "'silk' is left out: this world cannot draw it.",
    ]


def test_the_exact_mask_is_the_worlds(model, field):
    assert dl.edit(model, field, "make it dark", mask="exact", method=QUICK).mask.min() == 1


def test_figures_draw_the_worlds_attributes(model, field):
    sweep = dl.edit(model, field, "make it dark", method=QUICK).sweep([0, 1])
    figure = plots.plot_sweep(sweep)
    labels = [ax.get_ylabel() for ax in figure.axes]
    assert "light\n(0 to 1)" in labels


def test_an_image_is_checked_against_the_worlds_drawing(model, field):
    assert dl.check_image(model, field).world_db > 40, "a plain field is drawn as it is"
    assert dl.check_image(model, torch.rand(1, 3, 128, 128)).world_db < 12


def test_a_benchmark_runs_the_worlds_suite(model, tmp_path):
    suite = Suite("fields-test", model.world.suite(2, "test"))
    assert set(choose(model, "all")) > {"ems", "flowedit"}, "with published settings"
    entries = {"ems": choose(model, "ems")["ems"].__class__("ems", QUICK)}
    assert runner.run_bench(model, suite, entries, tmp_path, degrees=[0.5, 1.0]) == 2
    rows = runner.collect(tmp_path, suite)
    assert len(rows) == 4 and not any(row["error"] for row in rows)
    for row in rows:
        (seen,) = model.world.measure(images.to_tensor(images.open_image(tmp_path / row["picture"])))
        assert row["text_agreement"] == model.world.agreement("dark warm", seen)
        assert row["success"] == float(seen["light"] < 0.4)
    assert runner.report(tmp_path, suite).is_file()


def test_shipped_worlds_are_found_by_name():
    assert names() == ["portraits"] and isinstance(open_world("portraits"), Portraits)
    with pytest.raises(ModelError, match="There is no world 'mars'. Choose from: portraits"):
        open_world("mars")
    with pytest.raises(ModelError, match="opened without a model's folder"):
        open_world("portraits").measure(torch.rand(1, 3, 128, 128))
    assert [path.is_file() for path in open_world("portraits").examples().values()] == [True] * 6
