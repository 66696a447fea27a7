"""The commands: what each one is called, which options it has, and what it does.

A command imports what it needs when it runs, so that ``ditlens --help`` answers at once, and checks before what can
be checked without torch.
"""

from __future__ import annotations

import dataclasses
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from typer import Argument, Option

import ditlens as dl
from ditlens.cli import options as o
from ditlens.cli.app import Outcome, command
from ditlens.cli.app import app as app
from ditlens.cli.bench import bench
from ditlens.cli.checks import check as check_given
from ditlens.cli.checks import check_instruction
from ditlens.cli.course import course, kit, preflight
from ditlens.cli.page import app as open_app
from ditlens.cli.playground import export, playground
from ditlens.errors import BudgetError, DitlensError, StudyError
from ditlens.images import save_image
from ditlens.models.find import LORA
from ditlens.tables import counted, progress_bar

if TYPE_CHECKING:
    from collections.abc import Callable

    from ditlens.lens.study.manifest import Manifest

OUT = Path("outputs")
METHODS = f"One of {', '.join(get_args(o.Method))}; else the model's own."
EDIT_FILES = ("edit.png", "edit.json", "mask.png")
PARTS = {
    "text": "text_encoder",
    "vae": "vae",
    "mmdit": "transformer",
    "oracle": "oracle",
    "describer": "describer",
}
"""The folder that each stage of a training writes; the twin has one of its own, beside the model's."""


@command('generate "a portrait with a big smile and red hair" --seed 3 --out a.png')
def generate(
    prompt: Annotated[str, Argument(help="What the image shows.")],
    seed: o.Seed = 0,
    steps: o.Steps = None,
    guidance: o.Guidance = None,
    out: Annotated[Path, Option(parser=o.image_file, metavar="<path>", help="Image file.")] = OUT / "generate.png",
    force: o.Force = False,
    model: o.Model = "portraits",
    device: o.Device = "auto",
) -> Outcome:  # fmt: skip
    """Make an image from a text."""
    check_given(model, out=out.parent, writes=[out.name], force=force)
    loaded = dl.load(model, device=device)
    chosen = {"steps": steps, "guidance": guidance}
    settings: dict[str, Any] = {name: value for name, value in chosen.items() if value is not None}
    total = steps or loaded.defaults["steps"]
    with progress_bar("steps") as show:
        image = loaded.generate(
            prompt, seed=seed, on_step=lambda state: show(state.step + 1, total), **settings
        )
    save_image(out, image)
    return Outcome(f"wrote {out}", {"prompt": prompt, "seed": seed, **settings, "image": out})


@command('edit me.png "make her smile more" --degree 1.0 --out outputs/smile')
def edit(
    image: o.Image,
    instruction: Annotated[str, Argument(help="What to change.")],
    degree: o.Degree = 1.0,
    seed: o.Seed = 0,
    method: Annotated[o.Method | None, Option(metavar="NAME", help=METHODS)] = None,
    mask: Annotated[str, Option(help="none, difference, exact, or an image: white changes.")] = "auto",
    describer: Annotated[str | None, Option(help="own, a model's name or folder, address#model, or .json.")] = None,
    encoders: Annotated[Any, Option(parser=o.encoders, metavar="LIST", help="Text encoders whose part of the "
                                    "text moves, e.g. clip,clip_2 or 0,1; all if not given.")] = None,
    source_text: Annotated[str | None, Option(help="What the image shows; else the describer writes it.")] = None,
    target_text: Annotated[str | None, Option(help="What it should show; else the describer writes it.")] = None,
    out: o.Out = OUT / "edit",
    force: o.Force = False,
    model: o.Model = "portraits",
    device: o.Device = "auto",
) -> Outcome:  # fmt: skip
    """Change an image as an instruction says."""
    check_given(model, out=out, image=image, mask=mask, writes=EDIT_FILES, force=force)
    if source_text is None or target_text is None:
        check_instruction(model, instruction, describer)
    loaded = dl.load(model, device=device)
    with progress_bar("steps") as show:
        result = dl.edit(
            loaded, image, instruction, degree=degree, seed=seed, mask=mask, method=method, describer=describer,
            source_text=source_text, target_text=target_text, encoders=encoders,
            on_step=lambda state: show(state.step + 1, state.steps),
        )  # fmt: skip
    result.save(out)
    return Outcome(f"{result}\n\nwrote {out / 'edit.png'}, edit.json", facts(result, out))


@command("check me.png")
def check(image: o.Image, model: o.Model = "portraits", device: o.Device = "auto") -> Outcome:
    """Say whether the model knows images like this one."""
    check_given(model, image=image)
    found = dl.check_image(dl.load(model, device=device), image)
    return Outcome(str(found), dataclasses.asdict(found))


@command("demo")
def demo(
    out: o.Out = OUT / "demo", force: o.Force = False, model: o.Model = "portraits", device: o.Device = "auto"
) -> Outcome:
    """Edit the example portrait and show what changed."""
    from ditlens.cli.demo import IMAGE_FILES, PORTRAIT, run

    check_given(model, out=out, image=PORTRAIT, writes=[*EDIT_FILES, *IMAGE_FILES], force=force)
    result = run(dl.load(model, device=device), out)
    images = {Path(name).stem: out / name for name in IMAGE_FILES}
    text = f"{result}\n\nwrote before_after.png, edit.png, edit.json, sweep.png in {out}"
    return Outcome(text, facts(result, out) | images)


def facts(result: dl.Edit, folder: Path) -> dict[str, Any]:
    """What ``--json`` prints of an edit that was saved in a folder."""
    return {"image": folder / "edit.png", "json": folder / "edit.json", **result.facts()}


command("app --seats 8 --no-browser")(open_app)
command("course my-course --edition student")(course)
command("kit /media/stick/ditlens --platform windows,macos --python 3.12,3.13")(kit)
command("preflight --thorough")(preflight)
command("playground")(playground)
command("export onnx --out model-onnx")(export)


@command('capture --prompts prompts.txt --seeds 0:4 --sites "joint.*.image.out"')
def capture(
    context: typer.Context,
    prompts: Annotated[Path, o.Place(help="Text file with one prompt on each line, or a .csv with a "
                                     "column prompt and others that the study keeps.")],
    seeds: Annotated[Any, Option(parser=o.numbers, metavar="LIST", help="0:4 is 0 to 3; or 1,5,7.")] = "0",
    sites: Annotated[str, Option(help="Hook points, e.g. joint.*.image.out; see ditlens.sites.")] = "*.*.*.out",
    steps: Annotated[Any, Option(parser=o.numbers, metavar="LIST", help="Steps to keep; all if not given.")] = None,
    passes: Annotated[Any, Option(parser=o.passes, metavar="WHICH", help="cond, uncond or both.")] = "cond",
    reduce: Annotated[Any, Option(parser=o.reduction, metavar="WHICH",
                                  help="sketch:64: each token at width 64; none: at full width; mean: one for all "
                                  "tokens, hides what lies in one place.")] = "sketch:64",
    dtype: Annotated[o.Dtype | None, Option(metavar="TYPE", help="float16, bfloat16 or float32.")] = None,
    sampling_steps: o.Steps = None,
    guidance: o.Guidance = None,
    limit: Annotated[str, Option(help="Most memory for one image.")] = "1 GB",
    workers: o.Workers = 1,
    engine: Annotated[o.Engine, Option(help="ray runs the workers on a Ray cluster.")] = "local",
    dry_run: Annotated[bool, Option("--dry-run", help="Only say how much memory and disk it takes.")] = False,
    out: o.Resumed = OUT / "study",
    model: o.Model = "portraits",
    device: o.Device = "auto",
) -> Outcome:  # fmt: skip
    """Capture hidden states of many prompts and seeds to disk. The same command again resumes."""
    check_given(model, out=out, prompts=prompts)
    from ditlens.lens.study import run as studies
    from ditlens.lens.study.ray_engine import run_with_ray
    from ditlens.workers import Worker, launch, leave_to_launcher

    (texts, columns), worker = studies.read_prompts(prompts), Worker.here()
    if engine == "local" and workers > 1 and worker.world == 1 and not dry_run:
        return captured_by(launch(context.obj, workers, restarts=3), out)
    kept = {"steps": steps, "passes": passes, "reduce": reduce, "dtype": dtype}
    try:
        loaded = dl.load(model, device=worker.device(device))
        plan = studies.plan_study(
            loaded,
            texts,
            seeds,
            sites,
            columns=columns,
            sampling_steps=sampling_steps,
            guidance=guidance,
            **kept,
        )
        run = partial(studies.run_study, loaded, worker=worker)
        if engine == "ray":
            run = partial(run_with_ray, model, workers=workers, device=device)
        outcome = capture_as(run, loaded, plan, limit, dry_run, out)
        return outcome if worker.rank == 0 else outcome._replace(text="")  # all of them would say the same
    except DitlensError as error:
        if not leave_to_launcher(error):
            raise
        return Outcome(f"worker {worker.rank} ended: {error}", {})


def capture_as(
    run: Callable[..., dl.Study], model: dl.Model, plan: Manifest, limit: str, dry_run: bool, out: Path
) -> Outcome:
    """Say what a study will take, and run it if it fits."""
    from ditlens.lens.study import run as studies

    size = studies.estimate_study(model, plan)
    over = studies.over_limit(size, limit, plan.settings["sampling_steps"])
    told = studies.with_options(size, plan.settings["sampling_steps"])
    data: dict[str, Any] = {"folder": out, "bytes_item": size.item, "bytes_total": size.total}
    if dry_run:
        return Outcome(f"{told}\n{over}".strip(), data | {"fits": not over})
    if over:
        raise BudgetError(over)
    typer.echo(told, err=True)
    made = run(plan, out, limit=limit)
    return Outcome(str(made), data | contents(made), not made.failures)


def captured_by(code: int, out: Path) -> Outcome:
    """Say what several processes have captured, of which the launcher has returned an exit code."""
    if not (out / "manifest.json").is_file():
        raise StudyError(
            f"No worker came to write {out} (launcher: exit {code}); their messages above say why. "
            "The same command without --workers says it once."
        )
    made = dl.open_study(out)
    text = f"{made}{'' if code == 0 else f' (launcher: exit {code})'}"
    return Outcome(text, {"folder": out, **contents(made)}, not made.missing)


def contents(study: dl.Study) -> dict[str, Any]:
    """What a study holds, for ``--json``."""
    return {"done": len(study), "missing": len(study.missing), "failures": study.failures}


@command("study outputs/study --verify")
def study(
    folder: Annotated[Path, o.File(help="What ditlens capture wrote.")],
    verify: Annotated[bool, Option("--verify", help="Read every shard and compare its checksum.")] = False,
) -> Outcome:
    """Say what a folder of captured hidden states holds."""
    found = dl.open_study(folder)
    data: dict[str, Any] = {"done": len(found), "missing": found.missing, "failures": found.failures}
    text = repr(found)
    if verify:
        data["damaged"] = bad = found.verify()
        advice = f": {', '.join(bad)}. Delete them and capture again." if bad else ""
        text += f"\n{counted(len(bad), 'damaged shard')}{advice}"
    return Outcome(text, data, not (found.missing or data.get("damaged")))


@command("report --model portraits --out report")
def report(
    out: o.Out = OUT / "report",
    twin: Annotated[
        str, Option(metavar="MODEL", help="A model whose bias is known, as a control; none for none.")
    ] = "auto",
    scale: Annotated[float, Option(min=0.01, metavar="S", help="Share of the usual number of images.")] = 1.0,
    force: o.Force = False,
    model: o.Model = "portraits",
    device: o.Device = "auto",
) -> Outcome:
    """Measure the three findings of the paper on a model."""
    check_given(model, out=out, writes=["index.html", "report.json"], force=force)
    loaded = dl.load(model, device=device)
    name = f"{loaded.name}-twin" if twin == "auto" and loaded.name == "portraits" else twin
    control = None if name in ("auto", "none") else dl.load(name, device=device)
    made = dl.report(loaded, out, twin=control, scale=scale)
    return Outcome(f"{made}\n\nwrote {out / 'index.html'}", made.facts() | {"page": out / "index.html"})


@command("doctor")
def doctor() -> Outcome:
    """Check this installation and say what to type for each problem."""
    from ditlens.cli.doctor import examine, report

    checks = examine()
    ok = all(check.status != "fail" for check in checks)
    return Outcome(report(checks), {"ok": ok, "checks": [check._asdict() for check in checks]}, ok)


@command("train oracle --minutes 10 --resume")
def train(
    context: typer.Context,
    stage: Annotated[
        o.Stage, Argument(help="Part to train; all trains every part in order. twin: the biased one, a LoRA.")
    ],
    device: Annotated[str, Option(help="auto, cpu or cuda; with less than 24 GB, steps are smaller.")] = "auto",
    minutes: Annotated[float | None, Option(min=0.01, metavar="M", help="Time budget.")] = None,
    resume: Annotated[bool, Option("--resume", help="Resume from the last checkpoint.")] = False,
    workers: o.Workers = 1,
    out: Annotated[Path, o.Place(help="Model folder to write.")] = OUT / "train",
    force: Annotated[bool, Option("--force", help="Train anew what is there.")] = False,
) -> Outcome:  # fmt: skip
    """Train a part of the portraits model, all of it, or its twin."""
    place = out.with_name(f"{out.name}-twin") if stage == "twin" else out
    parts = PARTS.values() if stage == "all" else [PARTS[stage]] if stage in PARTS else []
    trained = [f"{part}/config.json" for part in parts] or [LORA]
    check_given(out=place, writes=trained, force=force or resume or "WORLD_SIZE" in os.environ)
    from ditlens.train.run import read_reports, run
    from ditlens.workers import launch

    if workers > 1 and "WORLD_SIZE" not in os.environ:
        if launch(context.obj, workers):
            return Outcome(
                "the training failed: see above", {"stage": stage, "out": out, "result": {}}, False
            )
        reports = read_reports(place)
        result = reports.get(stage, reports)
    else:
        result = run(stage, device=device, minutes=minutes, resume=resume, out=out)
    return Outcome(f"trained {stage} in {place}", {"stage": stage, "out": place, "result": result})


app.add_typer(bench, name="bench")
