"""A made-up benchmark run on disk: small, exact, with texts that try to break the page."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image, PngImagePlugin

EVIL = "<script>alert('x')</script>"
DEGREES = (0.0, 0.5, 1.0, 1.5)
KINDS = ("smile", "glasses", "smile+hat_style")

Paint = Callable[[int, str, float], Image.Image]
"""Item, method ("" for the source) and degree to a picture."""


def flat(item: int, method: str, degree: float) -> Image.Image:
    """A plain picture with a dark top, so that upside down is another picture."""
    image = Image.new("RGB", (16, 16), (40 * item % 256, 37 * len(method) % 256, round(90 * degree)))
    image.paste((5, 5, 5), (0, 0, 16, 4))
    return image


def write_run(
    folder: Path, methods: Sequence[str] = ("ems", "sdedit", "ddib"), items: int = 6, paint: Paint = flat
) -> Path:
    """Write a run. Method k has effect degree x (1 - 0.2 k) and drift 0.05 degree (k + 1); every 4th item fails.

    The last method breaks on item 0 at degree 1.5, with a message that holds markup.
    """
    lines, rows = [], []
    for k in range(items):
        name = f"item{k:03d}"
        instruction = EVIL if k == 1 else f'give them "more" & <b>bigger</b> number {k}'
        lines.append({"item": name, "kind": KINDS[k % 3], "instruction": instruction, "source_text": "a",
                      "target_text": "b", "picture": f"sources/{name}.png", "mask": ""})  # fmt: skip
        save(paint(k, "", 0), folder / "sources" / f"{name}.png")
        for index, method in enumerate(methods):
            rows += [result(folder, paint, k, name, index, method, degree) for degree in DEGREES]
    broken = rows[len(DEGREES) * len(methods) - 1]
    broken |= {key: "" for key in ("success", "effect", "drift", "psnr_outside", "picture")}
    broken["error"] = f"SettingError: {EVIL}"
    table(folder / "items.csv", lines)
    table(folder / "rows.csv", rows)
    (folder / "bench.json").write_text(json.dumps(about(methods)))
    (folder / "summary.json").write_text(json.dumps(summary(methods, items)))
    return folder


def result(folder: Path, paint: Paint, k: int, name: str, index: int, method: str, degree: float) -> dict:
    """One row, and its picture; the picture's file tells the method, as those of `Edit.save` do."""
    file = folder / "images" / method / f"{name}_{degree:g}.png"
    note = PngImagePlugin.PngInfo()
    note.add_text("recipe", f"method={method}")
    save(paint(k, method, degree), file, note)
    return {"item": name, "kind": KINDS[k % 3], "method": method, "degree": degree, "seed": k, "nfe": 64,
            "calls": 16, "seconds": 1 + index, "success": float(k % 4 != 0), "effect": effect(index, degree),
            "drift": drift(index, degree), "psnr_outside": 30 - index - degree,
            "picture": file.relative_to(folder).as_posix(), "error": ""}  # fmt: skip


def effect(index: int, degree: float) -> float:
    return degree * (1 - 0.2 * index)


def drift(index: int, degree: float) -> float:
    return 0.05 * degree * (index + 1)


def about(methods: Sequence[str]) -> dict:
    metrics = {
        "success": {"title": "target reached", "better": "higher", "unit": "share", "identity": "oracle; v1"},
        "effect": {"title": "effect", "better": "higher", "unit": "share", "identity": f"way {EVIL}; v1"},
        "drift": {"title": "non-target drift", "better": "lower", "unit": "range", "identity": "drift; v1"},
        "psnr_outside": {"title": "PSNR outside", "better": "higher", "unit": "dB", "identity": "PSNR; v1"},
    }
    settings = {name: {"steps": 16, "method": {"kind": "made up", "note": EVIL}} for name in methods}
    return {"suite": "portraits", "model": f"portraits {EVIL}", "ditlens": "0.1.0", "seed": 0,
            "degrees": list(DEGREES), "methods": settings, "metrics": metrics,
            "absent": {"lpips": f"not installed {EVIL}"}}  # fmt: skip


def summary(methods: Sequence[str], items: int) -> dict:
    def number(value: float, half: float) -> dict:
        return {"value": value, "low": value - half, "high": value + half, "n": items, "nan": 0}

    found = {}
    for index, name in enumerate(methods):
        degrees = {
            f"{degree:g}": {
                "success": number(0.9 - 0.01 * index, 0.05),
                "effect": number(effect(index, degree), 0.03),
                "drift": number(drift(index, degree), 0.01),
                "psnr_outside": {"value": None, "low": None, "high": None, "n": 0, "nan": items}
                if index == 1
                else number(30.0 - index, 0.2),
            }
            for degree in DEGREES
        }
        found[name] = {
            "degrees": degrees,
            "sweep": {"spearman": number(0.9 - 0.1 * index, 0.05)},
            "matched": {"drift_at_0.5": number(0.02 * (index + 1), 0.005)},
            "cost": {"nfe": 64.0, "calls": 16.0, "seconds": 1.0 + index},
        }
    return {"methods": found}


def table(path: Path, rows: Sequence[dict]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def save(image: Image.Image, path: Path, note: PngImagePlugin.PngInfo | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, pnginfo=note)
