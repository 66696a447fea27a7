"""The benchmark of editing: what EMS is compared with, and on which edits."""

from __future__ import annotations

from argparse import Namespace
from types import SimpleNamespace

import pytest

from benchmarks import edit as bench
from ditlens.bench.entries import tuned
from ditlens.ems.masks import difference_settings

pytestmark = pytest.mark.usefixtures("wrong_types")  # models are doubles


@pytest.fixture
def known(wrong_types):
    return tuned(SimpleNamespace(defaults={"mask": "difference"}))


def row(method: str, item: int, degree: float, effect: float, drift: float) -> dict:
    return {"method": method, "item": f"{item:04}", "kind": "smile", "degree": degree, "effect": effect,
            "drift": drift, "error": ""}  # fmt: skip


def rows(method: str, drift: float, degrees=(0.25, 0.5, 1.0)) -> list[dict]:
    return [row(method, k, d, d, drift * d * (1 + k / 10)) for k in range(6) for d in degrees]


def test_every_method_is_ems_or_a_baseline(known):
    assert set(bench.OWN) | set(bench.BORROWERS) <= set(known)
    assert not set(bench.OWN) & set(bench.BORROWERS)
    borrowed = {n for n, e in known.items() if n not in bench.OWN and e.mask is not None}
    assert borrowed == set(bench.BORROWERS), "what has EMS's mask"


def test_rows_that_leave_out_one_thing_differ_in_nothing_else(known):
    ems = known["ems"].settings()
    changed = {
        "ems-no-mask": {"mask", "mask_settings"}, "ems-tokens": {"pooled"},
        "ems-pooled": {"tokens"}, "ems-exact-mask": {"mask", "mask_settings"},
    }  # fmt: skip
    for name, keys in changed.items():
        own = known[name].settings()
        differ = {key for key in ems.keys() | own.keys() if ems.get(key) != own.get(key)} - {"about"}
        assert differ == keys, name


def test_rows_in_a_mask_from_the_difference_have_its_settings(known):
    own = known["ems"].settings()
    assert list(own) == ["mask", "tokens", "pooled", "about", "mask_settings", "method"]
    assert own["mask_settings"] == difference_settings()
    confined = {name for name, entry in known.items() if entry.mask == "difference"}
    assert {name for name, entry in known.items() if "mask_settings" in entry.settings()} == confined


def test_the_best_baseline_and_the_best_that_borrows_nothing():
    found = [*rows("ems", 0.1), *rows("flowslider-mask", 0.08), *rows("flowslider", 0.125), *rows("dds", 0.4),
             *rows("ems-no-mask", 0.05), *rows("sdedit", 0.1, degrees=(0.25, 0.5))]  # fmt: skip
    ratios = bench.ratios_of(found)
    assert ratios.keys() == {"flowslider-mask", "flowslider", "dds"}, (
        "not EMS's parts, nor what never gets there"
    )
    assert ratios["flowslider"]["value"] == pytest.approx(0.8)
    assert bench.best_baseline(ratios) == "flowslider-mask"
    assert bench.best_baseline(ratios, bench.BORROWERS) == "flowslider"
    assert bench.best_baseline({}) == ""


def test_each_at_the_degree_of_most_success():
    found = [*rows("ems", 0.1, bench.DEGREES), *rows("flowslider", 0.2, bench.DEGREES)]
    for line in found:
        line["success"] = float(line["degree"] == {"ems": 1.0, "flowslider": 0.75}[line["method"]])
    found[3]["success"] = 0.0  # one edit of EMS at degree 1
    result = bench.at_best_degrees(found, "flowslider")
    assert result["value"] == pytest.approx(0.1 / 0.2 / 0.75)
    assert result["n"] == 6 and "1 and 0.75: 0.833 and 1.000" in result["note"]
    assert result["parts"]["success_difference"]["value"] == pytest.approx(-1 / 6)
    part = [line for line in found if (line["item"], line["degree"], line["method"]) != ("0000", 1.5, "ems")]
    assert bench.at_best_degrees(part, "flowslider")["n"] == 5, "an edit that lacks a degree does not count"
    assert bench.at_best_degrees(found, "dds")["value"] is None


def test_the_best_are_measured_on_more_edits_until_no_other_is_the_best(monkeypatch, tmp_path):
    drifts = {"flowslider-mask": 0.08, "flowslider": 0.09, "flowalign": 0.1, "dds": 0.4}
    ran: list[tuple] = []

    def run_part(model, scorer, options, names, count, degrees):
        ran.append((names, count))
        if names == ["flowslider-mask"]:
            drifts["flowslider-mask"] = 0.095  # it had looked better on few edits

    monkeypatch.setattr(bench, "load", lambda name: SimpleNamespace(defaults={"mask": "difference"}))
    monkeypatch.setattr(bench, "Scorer", lambda model: None)
    monkeypatch.setattr(bench, "run_part", run_part)
    monkeypatch.setattr(bench, "open_suite", lambda name, count: None)
    monkeypatch.setattr(bench, "rows_of", lambda *_: [])
    monkeypatch.setattr(
        bench, "ratios_of", lambda rows: {name: {"value": 0.1 / drift} for name, drift in drifts.items()}
    )
    monkeypatch.setattr(bench.runner, "report", lambda *_: None)
    for name in ("of_ems", "degree0", "reversed_edits", "compared"):
        monkeypatch.setattr(bench, name, lambda *_: {})
    bench.edits(Namespace(ems=300, others=5, best=40, published=80, finding=9, out=tmp_path))
    assert ran[-3:] == [(["flowslider-mask"], 40), (["flowslider"], 40), (["flowslider"], 80)]
    assert ran[1:3] == [(list(bench.FINDING), 9), (["ems"], 300)]


def test_the_command_names_the_counts():
    options = Namespace(ems=3, others=2, best=2, published=3, finding=2, only=None)
    told = bench.command(options)
    assert told == 'make bench-edit ARGS="--ems 3 --others 2 --best 2 --published 3 --finding 2"'


def test_the_residual_is_compared_with_the_best_baseline_that_borrows_nothing():
    nets = {"ems": 1.0, "flowslider": 1.25, "flowslider-mask": 0.8, "dds": 2.0, "ems-no-mask": 0.1}
    made = [
        {**row(name, k, degree, 1.0, 0.0), "net_residual": net * (1 + k) * (1 if degree == 1 else 100)}
        for name, net in nets.items() for k in range(5) for degree in (0.5, 1.0)
    ]  # fmt: skip
    made.append({**row("dds", 5, 1.0, 1.0, 0.0), "net_residual": 1e9})  # an edit that EMS has not made
    ratios = bench.residual_ratios(made)
    assert {name: round(ratio["value"], 9) for name, ratio in ratios.items()} == {
        "flowslider": 0.8, "flowslider-mask": 1.25, "dds": 0.5}  # fmt: skip
    found = bench.residual_ratio(ratios)
    assert found["value"] == pytest.approx(0.8) and found["n"] == 5 and found["low"] == pytest.approx(0.8)
    assert "EMS over flowslider" in found["note"] and "over flowslider-mask, 1.25" in found["note"]


def test_the_baselines_with_the_least_residual_are_measured_on_as_many_edits_as_ems(
    monkeypatch, tmp_path, known
):
    nets = {name: 4.0 for name in known} | {
        "ems": 1.0,
        "flowslider": 2.0,
        "flowalign": 1.5,
        "flowslider-mask": 1.2,
    }
    counts: dict[str, int] = {}

    def run_bench(model, suite, entries, out, degrees):
        assert degrees == [1.0]
        counts.update({name: max(suite, counts.get(name, 0)) for name in entries})
        if counts.get("flowalign") == 20:
            nets["flowalign"] = 3.0  # it had looked better on few edits

    def rows_so_far(*_):
        return [
            {**row(n, k, 1.0, 1.0, 0.0), "net_residual": nets[n]} for n, c in counts.items() for k in range(c)
        ]

    monkeypatch.setattr(bench, "load", lambda name: SimpleNamespace(defaults={"mask": "difference"}))
    monkeypatch.setattr(bench, "Scorer", lambda model: None)
    monkeypatch.setattr(bench, "open_suite", lambda name, count: count)
    monkeypatch.setattr(bench.runner, "run_bench", run_bench)
    monkeypatch.setattr(bench, "rows_of", rows_so_far)
    found = bench.measure_residual(count=20, few=3, out=tmp_path)
    assert {name for name, count in counts.items() if count == 20} == {
        "ems", "flowslider-mask", "flowalign", "flowslider"}  # fmt: skip
    assert (
        found["value"] == 0.5 and found["n"] == 20 and set(counts) == {"ems", *(set(known) - set(bench.OWN))}
    )
