"""Faults while something is written: no file is lost, none is half written, and the error says which and why."""

from __future__ import annotations

import ast
import builtins
import contextlib
import errno
import importlib
import io
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from bench_run import write_run
from PIL import Image

import ditlens
from ditlens import files, images, workers
from ditlens.bench import runner
from ditlens.bench.rating import files as votes
from ditlens.bench.rating import server
from ditlens.bench.rating.ballots import Rules
from ditlens.bench.rating.export import export_static
from ditlens.bench.report.page import write_page
from ditlens.bench.report.sheets import write_sheets
from ditlens.cli import demo
from ditlens.describers.chat import ChatDescriber
from ditlens.describers.recorded import Recorder
from ditlens.describers.replies import Reply
from ditlens.description import Description
from ditlens.ems.edit import Edit, Sweep
from ditlens.errors import SettingError, WriteError
from ditlens.lens.cache import CachedItem, CacheKey, LatentCache
from ditlens.lens.study import run as studies
from ditlens.lens.study.claims import claim
from ditlens.lens.study.manifest import Manifest
from ditlens.lens.study.shards import write_item
from ditlens.train import data
from ditlens.train.loop import Budget, Training
from ditlens.worlds.portraits import examples
from ditlens.worlds.portraits.describer import PortraitDescriber
from ditlens.worlds.portraits.oracle import Oracle

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="faults of POSIX systems")

training = importlib.import_module("ditlens.train.run")  # `ditlens.train.run` is a function, too

# --- the writers: each writes into a folder, what it writes depends on a word -------------------------------


def picture(word: str) -> Image.Image:
    return Image.new("RGB", (8, 8), (len(word), 50, 100))


def made(word: str) -> SimpleNamespace:
    """An edit, as far as it is written."""
    plan = SimpleNamespace(mask_png=word.encode() * 50, files=())
    facts = {"word": word, "more": "x" * 100}
    return SimpleNamespace(
        recipe=facts, facts=lambda: facts, plan=plan, image=picture(word), source_image=picture(word),
        strip=lambda: picture(word), edits=[SimpleNamespace(plan=plan)],
    )  # fmt: skip


def in_parts(folder: Path, word: str) -> None:
    files.write_parts(folder / "a", [word.encode() * 9, torch.full((50,), len(word)).numpy()])


def folder_of_a_library(folder: Path, word: str) -> None:
    with files.writing_folder(folder / "model") as place:
        for name in ("config.json", "weights"):
            (place / name).write_text(name + word * 50)


def run_demo(folder: Path, word: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        result = made(word)
        result.save, result.sweep = (
            lambda out: Edit.save(result, out),
            lambda _: SimpleNamespace(images=[picture(word)]),
        )
        patch.setitem(vars(ditlens), "edit", lambda *_, **__: result)
        demo.run(None, folder)


def oracle(folder: Path, word: str) -> None:
    network = Oracle((4, 4, 4, 4))
    for parameter in network.parameters():
        torch.nn.init.constant_(parameter, len(word))
    network.save(folder / "oracle")


def describer(folder: Path, word: str) -> None:
    def save_pretrained(place, **_):
        (place / "config.json").write_text(word * 50)

    part = SimpleNamespace(save_pretrained=save_pretrained, state_dict=dict)
    PortraitDescriber.save(SimpleNamespace(model=part, processor=part), folder / "describer")


def checkpoint(folder: Path, word: str) -> None:
    module = torch.nn.Linear(20, 20)
    for parameter in module.parameters():
        torch.nn.init.constant_(parameter, len(word))
    Training({"m": module}, []).save(folder / "stage.pt")


def renders(folder: Path, word: str) -> None:
    """The cache of training images only grows: the second time by one part."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "PART", 1)
        patch.setattr(data, "parts", lambda _: 1 if word == "old" else 2)
        patch.setattr(data, "draw", lambda part, _: torch.full((1, 3, 128, 128), part, dtype=torch.uint8))
        data.renders(Budget(1, folder))


def latents(folder: Path, word: str) -> None:
    encoder = torch.nn.Linear(1, 1)
    for parameter in encoder.parameters():
        torch.nn.init.constant_(parameter, len(word))
    encoded = SimpleNamespace(latent_dist=SimpleNamespace(mode=lambda: torch.full((1, 8, 16, 16), len(word))))
    config = SimpleNamespace(shift_factor=0, scaling_factor=1)
    vae = SimpleNamespace(encoder=encoder, config=config, encode=lambda _: encoded)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "PART", 1)
        patch.setattr(data, "parts", lambda _: 1)
        patch.setattr(data, "renders", lambda _: torch.zeros(1, 3, 128, 128, dtype=torch.uint8))
        data.latents(vae, Budget(1, folder))


def benchmark_tables(folder: Path, word: str) -> None:
    runner.write_table(folder / "rows.csv", ["item", "error"], [{"item": word, "error": word * 50}])


def page(folder: Path, word: str) -> None:
    write_page(run_of(folder, word))


def sheets(folder: Path, word: str) -> None:
    write_sheets(run_of(folder, word), most=1)


def export(folder: Path, word: str) -> None:
    run = run_of(folder, word)
    if word == "new":
        export_static(run, folder / "voting", ballots=1, rules=RULES)


def rules(folder: Path, word: str) -> None:
    run = run_of(folder, word)
    if word == "new":
        server.Poll(server.read_folder(run), RULES)


RULES = Rules(4, shared=2, repeats=1, checks=1)


def run_of(folder: Path, word: str) -> Path:
    """A benchmark's folder, which is there before anything goes wrong; the second time with another name in it."""
    if word == "old":
        write_run(folder / "run", methods=("ems", "ddib"), items=1)
    return folder / "run"


def vote(folder: Path, word: str) -> None:
    if word == "old":  # as short as no space will be
        (folder / "votes").mkdir(parents=True)
        (folder / "votes" / "a.jsonl").write_text("{}\n{cut")
    else:
        votes.append_line(folder / "votes" / "a.jsonl", {"voter": "v" * 100})


def manifest(folder: Path, word: str) -> None:
    if word == "new":  # there is one or none
        Manifest("m", "f", ("a" * 50,), (0,), {}).begin(folder)


def shard(folder: Path, word: str) -> None:
    tensors = {CacheKey("joint.0.image.out", 0, "cond"): torch.full((1, 3, 4), len(word))}
    write_item(folder, 0, 0, LatentCache(tensors, [CachedItem(0, 0, word)]), word)


def failure(folder: Path, word: str) -> None:
    studies.record_failure(folder, (0, 0), ValueError(word * 50))


def claimed(folder: Path, word: str) -> None:  # noqa: ARG001 - there is nothing in a claim
    with claim(folder, "p0_s0"):
        pass


def recorded(folder: Path, word: str) -> None:
    who = SimpleNamespace(name="n", extract=lambda *_: Description("a man", f"a man, {word}", {}, "n"))
    Recorder(who, folder / "texts.json").extract(picture("x"), f"wish {word}")


class Answers(ChatDescriber):
    def reply(self, image, messages):  # noqa: ARG002
        return Reply('{"source": "a man, no hat", "target": "a man, red hat"}')


def kept_answer(folder: Path, word: str) -> None:
    Answers("parrot", cache=folder / "answers").extract(picture("x"), f"wish {word}")


def refusal(folder: Path, word: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(workers.REFUSALS, str(folder))
        workers.leave_to_launcher(SettingError(word * 50))


def drawn_examples(folder: Path, word: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(examples, "EXAMPLES", {"one": {"smile": len(word) / 10}})
        examples.write(folder, size=16 + len(word))


def training_report(folder: Path, word: str) -> None:
    training.record(
        folder,
        "vae",
        {"psnr": float(len(word)), "steps": 3, "minutes": 2.0, "seed": 0, "hardware": word, "date": word},
    )


def configurations(folder: Path, word: str) -> None:
    if word == "old":
        (folder / "vae").mkdir(parents=True)
        (folder / "vae" / "config.json").write_text('{"a": 1, "_name_or_path": "' + "x" * 50 + '"}')
    else:
        training.clean_configs(folder)


WRITERS: dict[str, Callable[[Path, str], object]] = {
    "text": lambda folder, word: files.write_whole(folder / "a.txt", word * 50),
    "JSON": lambda folder, word: files.write_json(folder / "a.json", {"word": word * 50}),
    "parts": in_parts,
    "folder": folder_of_a_library,
    "PNG": lambda folder, word: images.save_image(folder / "a.png", picture(word)),
    "JPEG": lambda folder, word: images.save_image(folder / "a.jpg", picture(word)),
    "edit": lambda folder, word: Edit.save(made(word), folder),
    "sweep": lambda folder, word: Sweep.save(made(word), folder / "strip"),
    "demo": run_demo, "oracle": oracle, "describer": describer, "checkpoint": checkpoint, "renders": renders,
    "latents": latents, "tables": benchmark_tables, "page": page, "sheets": sheets, "export": export,
    "rules of a rating": rules, "vote": vote, "manifest": manifest, "shard": shard, "failure": failure,
    "claim": claimed, "record of texts": recorded, "kept answer": kept_answer, "refusal of a worker": refusal,
    "examples": drawn_examples, "report of a training": training_report, "configurations": configurations,
}  # fmt: skip

# --- the faults ---------------------------------------------------------------------------------------------


def refuse(number: int) -> Callable[..., None]:
    """A function of the system that fails."""

    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    return fail


def interrupt(*_, **__):
    raise KeyboardInterrupt


def replacing(name: str, by: Callable[..., object]) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda patch: patch.setattr(os, name, by)


def no_folder_opens(patch: pytest.MonkeyPatch) -> None:
    really = os.open
    patch.setattr(
        os,
        "open",
        lambda path, *a, **k: refuse(errno.EACCES)() if os.path.isdir(path) else really(path, *a, **k),
    )


def no_file_opens(patch: pytest.MonkeyPatch) -> None:
    really = io.open

    def opened(file, mode="r", *given, **named):
        if set(mode) & set("wxa+"):
            refuse(errno.EACCES)()
        return really(file, mode, *given, **named)

    patch.setattr(io, "open", opened)
    patch.setattr(builtins, "open", opened)
    patch.setattr(files, "WAITS", ())


def locked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(os, "replace", refuse(errno.EACCES))
    patch.setattr(files, "WAITS", ())


ROOM = 40
"""Bytes for which there is room in a file, when there is no space: fewer than every writer needs."""


def no_space(patch: pytest.MonkeyPatch) -> None:  # noqa: ARG001
    """The system itself refuses what is longer: libraries in C and Rust see it, too."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


FAULTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "chmod is refused": replacing("chmod", refuse(errno.EPERM)),
    "flushing fails": replacing("fsync", refuse(errno.EIO)),
    "flushing is unknown": replacing("fsync", refuse(errno.EINVAL)),
    "replacing fails": replacing("replace", refuse(errno.EIO)),
    "the file is locked": locked,
    "no space": no_space,
    "folders cannot be made": replacing("mkdir", refuse(errno.EACCES)),
    "folders cannot be opened": no_folder_opens,
    "files cannot be opened": no_file_opens,
    "interrupted before the flush": replacing("fsync", interrupt),
    "interrupted before the replacement": replacing("replace", interrupt),
}
HARMLESS = ("chmod is refused", "flushing is unknown", "folders cannot be opened")
"""What must keep nothing from being written."""


@contextlib.contextmanager
def fault(name: str) -> Iterator[None]:
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with pytest.MonkeyPatch.context() as patch:
        FAULTS[name](patch)
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)


# --- what comes of them -------------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def wrong(writer: str, name: str, place: Path) -> list[str]:
    """Let one fault happen to one writer; returns what is wrong afterwards."""
    write, folder, twin = WRITERS[writer], place / "folder", place / "twin"
    numbers = iter(range(10**6))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(secrets, "token_hex", lambda count=16: f"{next(numbers):0{2 * count}x}")
        patch.setattr(secrets, "token_bytes", lambda count=32: bytes(count))
        write(folder, "old")
        folder.mkdir(exist_ok=True)
        shutil.copytree(folder, twin)
        before, begun = contents(folder), next(numbers)
        numbers = iter(range(begun, 10**6))
        write(twin, "new")
        after = contents(twin)
        numbers = iter(range(begun, 10**6))
        error = None
        with fault(name):
            try:
                write(folder, "new")
            except BaseException as raised:  # noqa: BLE001 - it is judged below
                error = raised
    now, problems = contents(folder), []
    for file in {**before, **now}:
        if file not in now:
            problems.append(f"{file} is lost")
        elif now[file] not in (before.get(file), after.get(file)):
            problems.append(f"{file} is half written")
    if error is None and now != after and writer != "kept answer":  # which can do without
        problems.append("nothing was said")
    if error is not None and (name in HARMLESS or not isinstance(error, WriteError | KeyboardInterrupt)):
        problems.append(f"it ended with {error!r}")
    if isinstance(error, WriteError) and "could not be written: " not in str(error):
        problems.append(f"the error does not say what happened: {error}")
    return problems


@pytest.mark.filterwarnings("ignore:The answer is not kept")
@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("writer", WRITERS)
def test_no_fault_loses_anything(writer, name, tmp_path):
    assert wrong(writer, name, tmp_path) == []


@pytest.mark.parametrize("name", [name for name in FAULTS if name not in HARMLESS])
def test_into_a_new_folder_too(name, tmp_path):
    with fault(name), pytest.raises((WriteError, KeyboardInterrupt)) as caught:
        files.write_whole(tmp_path / "new" / "a", "x" * 100)
    assert contents(tmp_path) == {}
    if caught.type is WriteError:
        assert str(caught.value).startswith(f"{tmp_path / 'new' / 'a'} could not be written: ")
        assert str(caught.value).endswith("Choose another place, or change the permissions of this one.")


def test_a_full_disk_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", refuse(errno.ENOSPC))
    with pytest.raises(
        WriteError, match="No space left on device. Make room on the disk, or choose another place"
    ):
        files.write_whole(tmp_path / "a", "x")


KILLED = """
import os, sys
from pathlib import Path
from ditlens import files
really = getattr(os, sys.argv[2])
setattr(os, sys.argv[2], lambda *_, **__: os.kill(os.getpid(), 9))
files.write_whole(Path(sys.argv[1]), "new" * 50)
"""


@pytest.mark.parametrize("where", ["fsync", "replace", "chmod"])
def test_killed_at_once(where, tmp_path):
    """What a killed writer leaves is known for what it is, and removed by the next."""
    (tmp_path / "a").write_text("old")
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "a"), where], check=False)
    assert done.returncode == -9
    assert (tmp_path / "a").read_text() == "old"
    assert [path.suffix for path in tmp_path.iterdir() if path.name != "a"] == [".tmp"]
    files.remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


# --- no writer is forgotten ---------------------------------------------------------------------------------

RAW = {
    "write_text",
    "write_bytes",
    "save",
    "savefig",
    "save_file",
    "save_pretrained",
    "replace",
    "rename",
    "dump",
}
WHOLE = ("writing_whole(", "writing_folder(")
SAFE = {
    "bare.save(buffer, 'PNG')": "into memory",
    "clean.save(file, 'PNG')": "into memory",
    "image.save(memory, form, **options)": "into memory",
    "figure.savefig(memory, format='png', dpi=120, facecolor='white')": "into memory",
    "np.save(file, layout)": "into memory",
    "twin.save(transformer, place)": "its own writer",
    "image.save(memory, 'JPEG', quality=90, subsampling=0)": "into memory",
    "safetensors.torch.save(whole, {f'ditlens.{kind}': json.dumps(about)})": "into memory",
    "Image.fromarray(levels.numpy()).save(buffer, 'PNG')": "into memory",
    "self.image.save(image, 'PNG', pnginfo=info)": "into memory",
    "self.savefig(file, format='jpeg', dpi=80, pil_kwargs={'quality': 85, 'optimize': True})": "into memory",
    "files.enter_context(writing_whole(folder / name)).write_bytes(content)": "whole",
    "picture.save(memory, 'PNG', pnginfo=info)": "into memory",
    "(fitted if same else picture).save(memory, 'PNG')": "into memory",
    "sheet.save(memory, 'JPEG', quality=80)": "into memory",
    "image.save(memory, 'JPEG', quality=85)": "into memory",
    "trained.save(folder / 'oracle')": "its own writer",
    "PortraitDescriber(model, processor).save(folder / 'describer')": "its own writer",
    "run.save(path)": "its own writer",
    "result.save(out)": "its own writer",
    "save({k: v.contiguous().cpu() for k, v in state.items()})": "into memory",
    "(self.folder / 'voila.log').open('wb')": "a log, in a folder that goes with the process",
    "path.open('x', encoding='utf-8')": "a claim is new or not there",
}


def calls_that_write(path: Path) -> Iterator[str]:
    """The calls of a module that write a file, outside `writing_whole` and `writing_folder`."""

    def walk(node: ast.AST, whole: bool) -> Iterator[str]:
        if isinstance(node, ast.With):
            whole = whole or any(ast.unparse(item).startswith(WHOLE) for item in node.items)
        if isinstance(node, ast.Call) and not whole:
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            texts = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            opens = name == "open" and any(set(text) & set("wxa+") and len(text) < 4 for text in texts)
            strings = name in ("replace", "rename") and (
                len(texts) == 2 or node.keywords or len(node.args) != 1
            )
            if opens or (name in RAW and not strings):
                yield ast.unparse(node)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, whole)

    yield from walk(ast.parse(path.read_text("utf-8")), False)


def test_every_writer_of_the_package_writes_whole():
    package = Path(ditlens.__file__).parent
    paths = [path for path in package.rglob("*.py") if path != package / "files.py"]
    found = {
        (path.relative_to(package).as_posix(), call) for path in paths for call in calls_that_write(path)
    }
    assert {(path, call) for path, call in found if call not in SAFE} == set()
    assert {call for _, call in found} == set(SAFE), "the list holds what is there, and nothing else"
