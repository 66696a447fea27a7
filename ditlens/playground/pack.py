"""The playground as a folder of static files: the page, the model in pieces, and what npm brings."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ditlens.errors import MissingDependencyError, ModelError, WriteError
from ditlens.files import user_cache, write_errors, write_json, write_whole
from ditlens.models.model import Model
from ditlens.playground.export import RECIPE, TOKENIZER, WORDS, export
from ditlens.playground.serve import PAGE, SOURCES, STAMP, stamp

VENDOR = {
    "onnxruntime-web": "dist/ort.wasm.bundle.min.mjs",
    "@huggingface/tokenizers": "dist/tokenizers.min.mjs",
}
"""Packages of npm, and the file of each that the page imports."""
RUNTIME = ("onnxruntime-web", "dist/ort-wasm-simd-threaded.wasm")
QUIETLY = ("--ignore-scripts", "--no-audit", "--no-fund")
PIECE = 2_000_000
"""Bytes of a piece of the download: after an interruption no more than this is fetched again, four times over."""


def build(
    model: Model, folder: Path, tell: Callable[[str, int, int], object] = lambda *_: None
) -> dict[str, Any]:
    """Write the playground into a folder, whole or not at all; what an earlier build left there is replaced.

    Args:
        model: A small SD3 pipeline of a world with words for a page, in float32 on the CPU: ``"portraits"``.
        folder: The folder; served by any static server, from any path.
        tell: Called with what is going on, how much of it is done, and of how much.

    Returns:
        The manifest: "files" with the pieces of each, "recipe", and "download", the bytes of all pieces.

    Raises:
        MissingDependencyError: If npm, onnx, onnxscript or onnxruntime is missing.
        ModelError: If the model cannot be exported.
        WriteError: If the folder holds something else, or cannot be written.
    """
    replaceable(folder)
    modules = node_modules()
    with write_errors(folder), tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        made, graphs = Path(place, "page"), Path(place, "graphs")
        export(model, graphs, lambda done, total: tell("networks", done, total))
        if not (graphs / WORDS).is_file():
            raise ModelError(f"{model.name!r} belongs to no world that has words for a page.")
        shutil.copytree(PAGE, made, ignore=lambda at, names: ignored(Path(at), names))
        for package, file in VENDOR.items():
            (made / "vendor").mkdir(exist_ok=True)
            shutil.copyfile(modules / package / file, made / "vendor" / Path(file).name)
        manifest = write_pieces(graphs, modules.joinpath(*RUNTIME), made / "model", tell)
        write_whole(made / STAMP, stamp(model.name))
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.move(made, folder)
    return manifest


def replaceable(folder: Path) -> None:
    """Refuse to replace what was not built here.

    Raises:
        WriteError: If the folder holds other files, or is a file.
    """
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not (folder / STAMP).is_file()):
        raise WriteError(f"{folder} holds something else than a playground. Choose a new folder: --out DIR.")


def ignored(at: Path, names: list[str]) -> list[str]:
    """What of the sources does not belong to the page."""
    return [name for name in names if at == PAGE and name not in SOURCES]


# --- npm ----------------------------------------------------------------------------------------------------


def node_modules() -> Path:
    """The packages that the page imports, as ``package-lock.json`` pins them, fetched by npm if they are not there.

    Raises:
        MissingDependencyError: If npm is missing, or could not fetch them.
    """
    lock = (PAGE / "package-lock.json").read_bytes()
    folder = user_cache("playground") / hashlib.sha256(lock).hexdigest()[:16]
    found = folder / "node_modules"
    if all((found / package / file).is_file() for package, file in (*VENDOR.items(), RUNTIME)):
        return found
    npm = shutil.which("npm")
    if npm is None:
        raise MissingDependencyError(
            "The playground takes onnxruntime-web and a tokenizer from npm, which was not found. Install Node.js, "
            "which brings it, and try again."
        )
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copyfile(PAGE / name, folder / name)
    done = subprocess.run([npm, "ci", *QUIETLY], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise MissingDependencyError(
            f"npm could not fetch the packages of the playground: {said[0] if said else 'no reason given'}. In "
            f"{folder}, type: npm ci"
        )
    return found


# --- the download -------------------------------------------------------------------------------------------


def write_pieces(
    graphs: Path, runtime: Path, folder: Path, tell: Callable[[str, int, int], object]
) -> dict[str, Any]:
    """Write all that the worker downloads, gzipped and cut, and its manifest."""
    parts = folder / "parts"
    parts.mkdir(parents=True)
    names = [
        *sorted(path.name for path in graphs.glob("*.onnx")),
        *sorted(path.name for path in graphs.glob("*.bin")),
    ]
    sources = {name: graphs / name for name in (*names, TOKENIZER, WORDS)} | {"ort.wasm": runtime}
    files, total = {}, 0
    for done, (name, path) in enumerate(sources.items()):
        tell("files", done, len(sources))
        data = path.read_bytes()
        if path.suffix == ".json":  # as short as it can be
            data = json.dumps(json.loads(data), ensure_ascii=False, separators=(",", ":")).encode()
        planes = name.endswith(".bin") and len(data) % 2 == 0
        packed = gzip.compress(as_planes(data) if planes else data, 9, mtime=0)
        files[name] = {"bytes": len(data), "planes": planes, "parts": cut(packed, parts)}
        total += len(packed)
    tell("files", len(sources), len(sources))
    recipe = json.loads((graphs / RECIPE).read_text("utf-8"))
    manifest = {"recipe": recipe, "download": total, "files": files}
    write_json(folder / "manifest.json", manifest)
    return manifest


def as_planes(data: bytes) -> bytes:
    """The low bytes of all half-precision numbers, then the high ones: gzip then saves a fifteenth more."""
    return np.frombuffer(data, np.uint8).reshape(-1, 2).T.tobytes()


def cut(packed: bytes, folder: Path) -> list[dict[str, Any]]:
    """Write pieces named by what is in them, so that a browser's cache never mistakes one for another."""
    found = []
    for start in range(0, len(packed), PIECE):
        piece = packed[start : start + PIECE]
        name = f"{hashlib.sha256(piece).hexdigest()[:20]}.bin"
        write_whole(folder / name, piece)
        found.append({"name": name, "bytes": len(piece)})
    return found
