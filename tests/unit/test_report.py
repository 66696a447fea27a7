"""Reports: verdicts follow from evidence, the page holds everything, and a run says what it leaves out."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest

import ditlens as dl
from ditlens.analysis.report import apart, both, run, together
from ditlens.analysis.report.findings import CLAIMS, Evidence, Report
from ditlens.analysis.report.page import write_report
from ditlens.analysis.report.subject import Subject
from ditlens.analysis.steering import Steering
from ditlens.cli import main as cli
from ditlens.errors import SettingError
from ditlens.views.plots import NotebookFigure


def piece(supports, finding=1, **more):
    return Evidence("a matrix", finding, "less than 0.1", "It is 0.05 <b>", supports, **more)


@pytest.mark.parametrize(
    ("pieces", "verdict"),
    [
        ([], "undecided"),
        ([piece(True)], "supported"),
        ([piece(True), piece(None)], "undecided"),
        ([piece(True), piece(False)], "not supported"),
        ([piece(None), piece(False)], "not supported"),
        ([piece(True), piece(False, decisive=False), piece(None, decisive=False)], "supported"),
        ([piece(True, decisive=False)], "undecided"),
        ([piece(True), piece(False, finding=2)], "supported"),
    ],
)
def test_a_verdict_follows_from_the_evidence(pieces, verdict):
    assert Report("m", {}, pieces).verdict(1) == verdict


def test_the_page_needs_no_other_file(tmp_path):
    figure = NotebookFigure(figsize=(1, 1))
    table = [{"attribute": "smile", "value": 0.12345}]
    made = Report(
        "portraits",
        {"date": "today"},
        [piece(True, figures=[(figure, "a picture")], table=table)],
        ["no twin"],
    )
    page = write_report(made, tmp_path).read_text("utf-8")
    assert re.findall(r'(?:src|href)="([^#"]{1,30})', page)[1:] == ["data:image/png;base64,iVBORw0K"]
    assert "0.123" in page and "a picture" in page and "no twin" in page and "It is 0.05 &lt;b&gt;" in page
    facts = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert [each["verdict"] for each in facts["findings"]] == ["supported", "undecided", "undecided"]
    assert facts["findings"][0]["evidence"][0]["table"] == table
    assert [each["claim"] for each in facts["findings"]] == list(CLAIMS.values())
    assert "1. The text space" in str(made) and "SUPPORTED" in str(made) and "Left out: no twin" in str(made)


def test_which_measurements_are_made(portraits, tmp_path, monkeypatch):
    """With a world all of them, without a twin all but its control, without a world the few that need none."""
    asked = []

    def fake(name):
        def measure(subject):
            asked.append((name, subject.scale, subject.tied))
            return piece(True)

        return measure

    world = tuple(
        fake(each.__name__) if each is not together.bias_is_seen else each for each in run.WITH_WORLD
    )
    monkeypatch.setattr(run, "WITH_WORLD", world)
    made = dl.report(portraits, tmp_path, scale=0.5, progress=False)
    assert len(asked) == len(run.WITH_WORLD) - 1 and asked[0] == ("texts_change_one_thing", 0.5, {})
    assert "whose bias is known" in made.left_out[0] and (tmp_path / "index.html").is_file()
    monkeypatch.setattr(run, "WITHOUT", (fake("pixels"),))
    bare = dl.report(dl.wrap(portraits.pipe, "bare"), tmp_path, progress=False)
    assert asked[-1][0] == "pixels" and "bare has no world" in bare.left_out[0]
    with pytest.raises(SettingError, match="has no 'tied' in its ditlens.json"):
        dl.report(portraits, tmp_path, twin=portraits)
    with pytest.raises(SettingError, match="scale is 0"):
        dl.report(portraits, tmp_path, scale=0)


def test_evidence_of_the_twin_and_of_the_matrix(portraits, tmp_path, monkeypatch):
    """From matrices that are known: clear shifts in the twin, none in the model."""

    class Known:
        def __init__(self, model, attributes=None, **_):
            self.rows = tuple(attributes or ("smile", "age"))
            shift = 0.5 if model is twin else 0.01
            self.cells = {(a, b): self.of(0.8 if a == b else shift) for a in self.rows for b in self.rows}
            self.dominance = 0.9

        def of(self, value):
            return {
                "value": value,
                "low": value - 0.01,
                "high": value + 0.01,
                "p": 0.0 if value > 0.1 else 0.5,
            }

        def cell(self, moved, read):
            return self.cells[moved, read]

        def largest(self, count):
            return [("smile", "age", self.cells["smile", "age"])]

        def plot(self):
            return NotebookFigure()

    twin, plain = (dl.wrap(portraits.pipe, name) for name in ("twin", "plain"))
    monkeypatch.setattr(together, "entanglement", Known)
    subject = Subject(portraits, twin, {"smile": (0, 1), "age": (0, 1)}, tmp_path)
    seen = together.bias_is_seen(subject)
    assert seen.supports and "0.50 in the twin, where 2 of 2 are clear of chance, and 0.010" in seen.says
    matrix = together.attributes_move_alone(subject)
    assert matrix.supports and "0 of 2 cells beside the diagonal" in matrix.says
    unseen = together.bias_is_seen(Subject(portraits, plain, subject.tied, tmp_path))
    assert unseen.supports is None


def test_steering_counts_towards_the_farther_end(portraits, monkeypatch):
    """An image that starts low is judged where it was steered up, another where it was steered down."""
    readings = [[{"smile": v} for v in row] for row in ([-1.0, -0.5, 0.5], [-0.7, 0.5, 0.9])]
    result = Steering.__new__(Steering)
    for name, value in {
        "amounts": (-1.5, 0.0, 1.5), "readings": readings, "world": portraits.world,
        "direction": SimpleNamespace(value="", targets=("smile",)),
    }.items():  # fmt: skip
        object.__setattr__(result, name, value)
    drift = [[0.1, 0.0, 0.2], [0.3, 0.0, 0.4]]
    monkeypatch.setattr(Steering, "drift", drift)
    moved, drifted = apart.farther_end(result, "smile")
    np.testing.assert_allclose(moved, [0.5, 0.6])
    np.testing.assert_allclose(drifted, [0.2, 0.3])


def test_the_command(portraits_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "WITH_WORLD", (lambda subject: piece(True, finding=2),))  # noqa: ARG005
    words = ["report", "--model", str(portraits_folder), "--out", str(tmp_path / "r"), "--device", "cpu"]
    assert cli.main([*words, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["findings"][1]["verdict"] == "supported" and facts["page"].endswith("index.html")
    assert cli.main(words) == 1 and "--force" in capsys.readouterr().err


def test_an_edit_is_done_if_it_arrives_and_does_not_lose_the_source():
    arrives = np.array([[0.4, 0.9], [0.9, 0.9], [0.9, 0.9], [0.9, 0.9]])
    away = np.array([[1.0, 1.0], [1.0, 1.0], [1.0, 3.0], [1.0, 1.0]])  # from the exact answer
    values = {("text", "effect"): arrives, ("text", "swap"): away, ("text", "gap"): np.full((4, 2), 2.0)}
    shares = both.done(SimpleNamespace(values=values, groups=np.array([0, 0, 1, 1])), "text")
    np.testing.assert_array_equal(shares, [[0.5, 1.0], [1.0, 0.5]])


def test_each_route_counts_at_its_best_noise_level():
    people, other = np.array([[1.0, 0.0], [1.0, 0.5]]), np.array([[0.0, 0.5], [0.0, 0.5]])
    assert both.best(people)["value"] == 1.0 and both.best(people, other)["value"] == 0.5
    assert both.best(people, other)["n"] == 2


def test_what_moves_the_other_way_is_not_said_to_hardly_move(portraits, monkeypatch):
    moved = {"smile": 0.6, "age": -0.4, "beard": 0.4}

    def ends(result, name):
        far = 0.35 if name == "beard" else 0.0
        value = moved.get(name, 0.0) if result == "made" else far
        return np.full(8, value) + 0.1 * np.tile([-1, 1], 4) * (value != 0), np.zeros(8)

    made = SimpleNamespace(random=lambda: "random")
    monkeypatch.setattr(apart, "direction", lambda *args, **how: made)
    monkeypatch.setattr(
        apart,
        "steered",
        lambda subject, one, name: SimpleNamespace(plot=lambda: None, kind="made" if one is made else one),
    )
    monkeypatch.setattr(apart, "farther_end", lambda found, name: ends(found.kind, name))
    subject = SimpleNamespace(world=portraits.world, study=SimpleNamespace(sites=["joint.3.image.out"]))
    says = apart.image_states_move_one_thing(subject).says
    assert (
        says.startswith("1 of 11 move alone: smile.") and "beard" in says and "10 do not clearly move" in says
    )
    assert says.endswith("The other way than it should: age.")
