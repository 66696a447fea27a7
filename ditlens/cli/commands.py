"""What each `ditlens` command does: from parsed options to an `Outcome`. The options are in `cli.py`.

Every command imports what it needs when it runs, so that `ditlens --help` answers at once.
"""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ditlens.ems.edit import Edit
    from ditlens.models.model import Model
    from ditlens.workers import Worker


class Outcome(NamedTuple):
    """What a command has to say.

    Attributes:
        text: For people.
        data: For machines: the one object that ``--json`` prints.
        ok: Whether all is well; if not, the exit code is 1.
    """

    text: str
    data: dict[str, Any]
    ok: bool = True


def generate(options: Namespace) -> Outcome:
    """Make a picture from a text."""
    chosen = {"steps": options.steps, "guidance": options.guidance}
    settings = {name: value for name, value in chosen.items() if value is not None}  # else the model's own
    image = load(options).generate(options.prompt, seed=options.seed, **settings)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    image.save(options.out)
    data = {"prompt": options.prompt, "seed": options.seed, **settings, "image": options.out}
    return Outcome(f"wrote {options.out}", data)


def edit(options: Namespace) -> Outcome:
    """Change a picture as an instruction says."""
    from ditlens.cli.demo import summary
    from ditlens.ems.edit import edit as run

    model = load(options)
    result = run(
        model, options.image, options.instruction, degree=options.degree, seed=options.seed, mask=options.mask,
        method=options.method, describer=options.describer, source_text=options.source_text,
        target_text=options.target_text, encoders=options.encoders,
    )  # fmt: skip
    result.save(options.out)
    warned = "".join(f"\nwarning: {warning}" for warning in result.warnings)
    return Outcome(
        f"{summary(result)}\n\nwrote {options.out}/edit.png, edit.json{warned}", facts(result, options.out)
    )


def check(options: Namespace) -> Outcome:
    """Say before an edit whether a picture is one that the model knows."""
    import dataclasses

    from ditlens.ems.judge import check_image

    found = check_image(load(options), options.image)
    return Outcome(str(found), dataclasses.asdict(found))


def demo(options: Namespace) -> Outcome:
    """Edit the example portrait and show what changed."""
    from ditlens.cli.demo import run, summary

    result = run(load(options), options.out)
    pictures = {name: options.out / f"{name}.png" for name in ("before_after", "sweep")}
    names = "before_after.png, edit.png, edit.json, sweep.png"
    text = f"{summary(result)}\n\nwrote {names} in {options.out}"
    return Outcome(text, facts(result, options.out) | pictures)


def capture(options: Namespace) -> Outcome:
    """Capture hidden states of many prompts and seeds to disk; the same command again goes on."""
    from ditlens.errors import DitlensError
    from ditlens.lens.study.run import read_prompts
    from ditlens.workers import Worker, leave_to_launcher

    prompts, worker = read_prompts(options.prompts), Worker.here()
    if options.workers > 1 and worker.world == 1 and not options.dry_run:
        return capture_with_workers(options)
    try:
        return capture_as(worker, prompts, options)
    except DitlensError as error:
        if not leave_to_launcher(error):
            raise
        return Outcome(f"worker {worker.rank} ended: {error}", {})


def capture_as(worker: Worker, prompts: Sequence[str], options: Namespace) -> Outcome:
    """Capture as the only worker or one of several."""
    from ditlens.errors import BudgetError
    from ditlens.lens.study import run as studies

    options.device = worker.device(options.device)
    model = load(options)
    manifest = studies.plan_study(
        model, prompts, options.seeds, options.sites, steps=options.steps, passes=options.passes,
        reduce=options.reduce, dtype=options.dtype, sampling_steps=options.sampling_steps,
        guidance=options.guidance,
    )  # fmt: skip
    size = studies.estimate_study(model, manifest)
    over = studies.over_limit(size, options.limit, manifest.settings["sampling_steps"])
    data: dict[str, Any] = {"folder": options.out, "bytes_item": size.item, "bytes_total": size.total}
    if options.dry_run:
        return Outcome(f"{size}\n{over}".strip(), data | {"fits": not over})
    if over:
        raise BudgetError(over)
    notify(str(size))
    study = studies.run_study(
        model, manifest, options.out, worker=worker, limit=options.limit,
        progress=(lambda done, total: notify(f"{done}/{total} items", again=True)) if worker.rank == 0 else None,
    )  # fmt: skip
    ok = not study.failures
    data |= {"done": len(study), "missing": len(study.missing), "failures": study.failures}
    return Outcome(str(study), data, ok)


def capture_with_workers(options: Namespace) -> Outcome:
    """Let several processes capture, and say what they made."""
    from ditlens import workers
    from ditlens.errors import StudyError
    from ditlens.lens.study.store import open_study

    code = workers.launch(options.arguments, options.workers, restarts=3)
    if not (options.out / "manifest.json").is_file():
        raise StudyError(
            f"No worker came to write {options.out} (launcher: exit {code}); their messages above say why. "
            "The same command without --workers says it once."
        )
    study = open_study(options.out)
    data = {
        "folder": options.out,
        "done": len(study),
        "missing": len(study.missing),
        "failures": study.failures,
    }
    text = f"{study}{'' if code == 0 else f' (launcher: exit {code})'}"
    return Outcome(text, data, not study.missing)


def bench(options: Namespace) -> Outcome:
    """Compare editing methods on a suite of edits; the same command again goes on."""
    if options.what != "edit":
        return rating(options)
    if options.folder is not None:
        from ditlens.errors import SettingError

        raise SettingError(f"ditlens bench edit writes to --out; type --out {options.folder}.")
    from ditlens.bench import runner
    from ditlens.bench.entries import choose
    from ditlens.bench.suites import open_suite
    from ditlens.bench.workers import run_workers

    suite = open_suite(options.suite, options.count)
    for remark in suite.remarks:
        notify(remark)
    model = load(options)
    entries = choose(model, options.methods)

    def shown(done: int, total: int, what: str) -> None:
        notify(f"{done}/{total} {what}", again=done < total)

    if options.workers > 1:
        runner.plan_bench(model, suite, entries, options.out, options.degrees, options.seed)
        run_workers(
            options.workers, suite=options.suite, count=options.count, methods=options.methods,
            degrees=options.degrees, seed=options.seed, out=options.out, model=options.model,
            device=options.device, progress=shown,
        )  # fmt: skip
    else:
        runner.run_bench(
            model, suite, entries, options.out, degrees=options.degrees, seed=options.seed, progress=shown
        )
    page = runner.report(options.out, suite)
    text, data = runner.table_for_people(options.out, list(entries))
    return Outcome(f"{text}\n\nwrote {page}", {"folder": options.out, "page": page, "methods": data})


def rating(options: Namespace) -> Outcome:
    """Show a benchmark that has been run, and let people rate it."""
    from ditlens.bench import rating
    from ditlens.bench.report.page import write_page
    from ditlens.bench.report.sheets import write_sheets

    folder = options.folder or Path("outputs/bench")
    if options.what == "page":
        write_sheets(folder)
        page = write_page(folder)
        return Outcome(f"wrote {page}", {"page": page})
    if options.what == "votes":
        found = rating.tally(folder)
        return Outcome(rating.report(found), found)
    rules = rating.Rules(
        pairs=options.pairs,
        shared=min(10, options.pairs // 3),
        repeats=min(4, options.pairs // 5),
        checks=min(4, 1 + options.pairs // 8),
    )
    if options.what == "export":
        if options.out == Path("outputs/bench"):
            from ditlens.errors import SettingError

            raise SettingError("Name a new folder for the voting page: --out outputs/voting.")
        page = rating.export_static(folder, options.out, rules=rules)
        return Outcome(f"wrote {page}; the key to its pictures is in {folder / 'votes'}", {"page": page})
    rating.serve(folder, options.port, options.host, rules)
    return Outcome(f"count them with: ditlens bench votes {folder}", {"folder": folder})


def study(options: Namespace) -> Outcome:
    """Say what a study on disk holds."""
    from ditlens.lens.study.store import open_study

    found = open_study(options.folder)
    data: dict[str, Any] = {"done": len(found), "missing": found.missing, "failures": found.failures}
    text = repr(found)
    if options.verify:
        data["damaged"] = bad = found.verify()
        text += f"\n{len(bad)} damaged shards" + (
            f": {', '.join(bad)}. Delete them and capture again." if bad else ""
        )
    return Outcome(text, data, not (found.missing or data.get("damaged")))


def notify(text: str, again: bool = False) -> None:
    """Show progress on standard error; on a terminal each line replaces the last."""
    terminal = sys.stderr.isatty()
    sys.stderr.write(("\r" if again and terminal else "") + text + ("" if again and terminal else "\n"))
    sys.stderr.flush()


def doctor(_: Namespace) -> Outcome:
    """Check this installation and say what to type for each problem."""
    from ditlens.cli.doctor import examine, report

    checks = examine()
    ok = all(check.status != "fail" for check in checks)
    return Outcome(report(checks), {"ok": ok, "checks": [check._asdict() for check in checks]}, ok)


def train(options: Namespace) -> Outcome:
    """Train a part of the portraits model from nothing, or go on where a training stopped."""
    from ditlens import workers
    from ditlens.train import run
    from ditlens.train.run import read_reports

    if options.workers > 1 and "WORLD_SIZE" not in os.environ:
        code = workers.launch(options.arguments, options.workers)
        words = f"trained {options.stage} in {options.out}" if code == 0 else "the training failed: see above"
        reports = read_reports(options.out) if code == 0 else {}
        result = reports.get(options.stage, reports)
        return Outcome(words, {"stage": options.stage, "out": options.out, "result": result}, code == 0)
    result = run(
        options.stage,
        device=options.device,
        minutes=options.minutes,
        resume=options.resume,
        out=options.out,
    )
    data = {"stage": options.stage, "out": options.out, "result": result}
    return Outcome(f"trained {options.stage} in {options.out}", data)


def load(options: Namespace) -> Model:
    """Load the model that the options name."""
    from ditlens.models.loading import load as load_model

    return load_model(options.model, device=options.device)


def facts(result: Edit, folder: Path) -> dict[str, Any]:
    """What ``--json`` tells about an edit that was saved in `folder`."""
    names = (
        "source_text",
        "target_text",
        "degree",
        "targets",
        "before",
        "after",
        "drift",
        "warnings",
        "seconds",
        "recipe",
    )
    measured = {name: getattr(result, name) for name in names}
    return {"image": folder / "edit.png", "json": folder / "edit.json", **measured}
