"""The report of a benchmark: one page that works offline, on a phone, in the dark and on paper."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from ditlens.bench.folder import BenchFolder, read_folder
from ditlens.bench.report.curves import curves
from ditlens.bench.report.gallery import gallery
from ditlens.bench.report.tables import attribute_table, cost_table, main_table, matched_table, sweep_table


def write_page(folder: str | Path | BenchFolder) -> Path:
    """Write `index.html` into the folder of a benchmark run.

    The page holds its style and its script; only the pictures stay files. It needs no server and no network.

    Args:
        folder: What `ditlens bench edit --out` wrote.

    Returns:
        The page.

    Raises:
        StudyError: If a file of the run is missing or damaged.
    """
    bench = read_folder(folder)
    about = bench.about
    title = f"Benchmark {about.get('suite', '')}: {len(bench.methods)} methods"
    page = Template(static("page.html")).substitute(
        title=escape(title), style=static("page.css"), script=static("page.js"), facts=_facts(bench),
        main=main_table(bench), curves=curves(bench), sweep=sweep_table(bench),
        matched=matched_table(bench), attributes=attribute_table(bench),
        cost=cost_table(bench), gallery=gallery(bench), failures=_failures(bench),
        settings=_settings(about.get("methods", {})), metrics=_metrics(about), absent=_absent(about),
    )  # fmt: skip
    path = bench.path / "index.html"
    path.write_text(page, "utf-8")
    return path


def static(name: str) -> str:
    """A file of the templates of the report, or of the rating."""
    room = "rating" if name.startswith("vote") else "report"
    return (files(f"ditlens.bench.{room}") / "templates" / name).read_text("utf-8")


def definitions(pairs: Iterable[tuple[str, str]]) -> str:
    """A list of terms and what they are; both as HTML."""
    return "<dl>" + "".join(f"<div><dt>{term}</dt><dd>{text}</dd></div>" for term, text in pairs) + "</dl>"


def _facts(bench: BenchFolder) -> str:
    """Suite, model, version and sizes."""
    about = bench.about
    facts = {
        "suite": about.get("suite", ""), "model": about.get("model", ""), "ditlens": about.get("ditlens", ""),
        "items": len(bench.items), "methods": len(bench.methods),
        "degrees": ", ".join(f"{degree:g}" for degree in bench.degrees), "seed": about.get("seed", ""),
    }  # fmt: skip
    return definitions((term, escape(str(value))) for term, value in facts.items())


def _failures(bench: BenchFolder) -> str:
    """Every edit that broke, with its message."""
    broken = [row for row in bench.rows if row.error]
    if not broken:
        return "<p>None: every edit of this run ended with a picture.</p>"
    rows = "".join(
        f'<tr><th scope="row">{escape(row.item)}</th><td>{escape(row.method)}</td><td>{row.degree:g}</td>'
        f'<td class="words">{escape(row.error)}</td></tr>'
        for row in broken
    )
    heads = "".join(f'<th scope="col">{name}</th>' for name in ("item", "method", "degree", "message"))
    return (
        f"<p>{len(broken)} of {len(bench.rows)} edits ended with an error. They have no picture and no values.</p>"
        '<div class="scroll" tabindex="0"><table><thead><tr>'
        + heads
        + f"</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _settings(methods: dict[str, Any]) -> str:
    """The settings of every method."""
    return definitions((escape(name), _words(settings)) for name, settings in methods.items())


def _words(settings: Any) -> str:
    if not isinstance(settings, dict):
        return escape(str(settings))
    pairs = (f"{escape(str(key))}&nbsp;= {_value(value)}" for key, value in settings.items())
    return "; ".join(pairs) or "no settings"


def _value(value: Any) -> str:
    """A setting; settings of settings stand in brackets."""
    return f"({_words(value)})" if isinstance(value, dict) else escape(str(value))


def _metrics(about: dict[str, Any]) -> str:
    """Which implementation each metric is, so that numbers are compared only with their like."""
    pairs = []
    for name, metric in about.get("metrics", {}).items():
        code = f"<code>{escape(str(metric.get('identity', '')))}</code>"
        better = f"; {escape(metric['better'])} is better" if metric.get("better") else ""
        unit = f" Unit: {escape(str(metric['unit']))}{better}." if metric.get("unit") else ""
        pairs.append((f"{escape(name)} <small>{escape(metric.get('title') or '')}</small>", code + unit))
    return definitions(pairs)


def _absent(about: dict[str, Any]) -> str:
    """Metrics that were not computed, and why."""
    absent = about.get("absent", {})
    if not absent:
        return "<p>No metric is absent.</p>"
    return definitions((escape(name), escape(str(why))) for name, why in absent.items())
