"""Run the stages of the recipe and write a model folder.

The result is a complete model in diffusers' layout (``ditlens.load`` and the stock pipeline open it), plus
``oracle/``, ``describer/``, ``reports.json`` (the report of each stage) and ``checksums.json``. Checkpoints and the
training set are kept in ``work/`` beside them; on a GPU only the latents of the training set are.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ditlens.errors import ModelError
from ditlens.files import checksum, read_json, user_path, write_json, writing_folder
from ditlens.models.loading import pick_device
from ditlens.train import data, describer, mmdit, oracle, team, text, twin, vae
from ditlens.train.card import write_card
from ditlens.train.loop import Budget
from ditlens.train.silent import build_silent_encoder
from ditlens.workers import Worker
from ditlens.worlds.portraits.describer import PortraitDescriber
from ditlens.worlds.portraits.heldout import HELD_OUT

STAGES = ("text", "vae", "mmdit", "oracle", "describer")
"""The parts of the portraits model, in the order in which they have to run. ``"twin"`` is another model."""

MINUTES: dict[str, dict[str, float]] = {
    "cpu": {"text": 13, "vae": 30, "mmdit": 110, "oracle": 12, "describer": 15, "twin": 30},
    "cuda": {"text": 5, "vae": 2.3, "mmdit": 4.6, "oracle": 0.9, "describer": 15, "twin": 3},
}
"""Minutes per stage. On a GPU, those of the autoencoder, transformer and oracle are those of the shipped weights
(one H200); text encoders and describer, whose texts are made by the CPU, have not been trained on one yet."""

SETTINGS: dict[str, Any] = {
    "world": "portraits",
    "steps": 20,
    "guidance": 3.0,
    "edit": {"kind": "ode", "name": "ems", "steps": 12},
    "mask": "difference",
}  # fmt: skip
"""Contents of ``ditlens.json`` in a new folder."""


def run(
    stage: str,
    *,
    device: str = "auto",
    minutes: float | None = None,
    resume: bool = False,
    out: str | Path = "outputs/train",
    seed: int = 0,
) -> dict[str, Any]:
    """Train one stage of the portraits model, all of them, or its biased twin.

    Args:
        stage: One of `STAGES`, ``"all"``, or ``"twin"``, which is written beside `out`: see `twin_of`.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``; Apple's GPU is not used for training.
        minutes: Time budget of the stage, with "all" of each stage; the recipe's own by default.
        resume: Continue from the stage's checkpoint; without one, from the weights in `out` if there are any.
        out: Model folder to write.
        seed: Seed of weights and data.

    Returns:
        The report of the stage (or of each): steps, minutes, last losses and measured quality.

    Raises:
        ModelError: If a stage that this one needs has not been run in `out`.
    """
    folder = user_path(out)
    asked = Worker.here().device(device)  # each process of a team has its own GPU
    chosen = pick_device("cpu" if asked == "auto" else asked)
    reports: dict[str, dict[str, Any]] = {}
    with team.joined(chosen):
        for name in STAGES if stage == "all" else (stage,):
            budget = Budget(0, folder / "work", device=chosen, resume=resume, seed=seed)
            budget.minutes = minutes or budget.choose(MINUTES)[name]
            report = RECIPES[name](folder, budget)
            report |= {"seed": seed, "hardware": hardware(chosen), "date": time.strftime("%Y-%m-%d")}
            recorded_as = report.pop("stage", name)
            if team.rank() == 0:
                record(twin_of(folder) if name == "twin" else folder, recorded_as, report)
            team.wait()  # the next stage reads what rank 0 has written
            reports[name] = report
    data.images_on.cache_clear()
    return reports if stage == "all" else reports[stage]


def _text(folder: Path, budget: Budget) -> dict[str, Any]:
    fresh = not (budget.resume and (folder / "text_encoder").is_dir())
    tokenizer, encoders, report = text.train(budget, *(() if fresh else load_text(folder, budget)))
    if team.rank() > 0:
        return report
    report |= held_out_entry(folder, "text", fresh=fresh)
    for suffix, encoder in zip(("", "_2"), encoders, strict=True):
        with writing_folder(folder) as place:
            tokenizer.save_pretrained(place / f"tokenizer{suffix}")
            encoder.to(torch.float16).save_pretrained(place / f"text_encoder{suffix}")
    return report


def _vae(folder: Path, budget: Budget) -> dict[str, Any]:
    start = load_vae(folder, budget) if budget.resume and (folder / "vae").is_dir() else None
    # A transformer depends on the encoder: beside one, only the decoder is trained further.
    beside = start is not None and (folder / "transformer").is_dir()
    trained, report = vae.train(budget, start, decoder_only=beside)
    if team.rank() == 0:
        with writing_folder(folder / "vae") as place:
            trained.to(torch.float16).save_pretrained(place)
    return report | ({"stage": "vae_decoder"} if beside else {})


def _mmdit(folder: Path, budget: Budget) -> dict[str, Any]:
    from diffusers import FlowMatchEulerDiscreteScheduler, StableDiffusion3Pipeline

    vae, (tokenizer, encoders) = load_vae(folder, budget), load_text(folder, budget)
    start = load_transformer(folder) if budget.resume and (folder / "transformer").is_dir() else None
    transformer, report = mmdit.train(budget, vae, tokenizer, encoders, start)
    if team.rank() > 0:
        return report
    report |= held_out_entry(folder, "mmdit", fresh=start is None)
    tokenizer_3, encoder_3 = build_silent_encoder(mmdit.CONFIG["joint_attention_dim"])
    pipe = StableDiffusion3Pipeline(
        transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0), vae=vae,
        text_encoder=encoders[0], tokenizer=tokenizer, text_encoder_2=encoders[1], tokenizer_2=tokenizer,
        text_encoder_3=encoder_3, tokenizer_3=tokenizer_3,
    )  # fmt: skip
    with writing_folder(folder) as place:
        pipe.to("cpu", torch.float16).save_pretrained(place)
        clean_configs(place)
    write_json(folder / "ditlens.json", read_settings(folder))
    return report


def _oracle(folder: Path, budget: Budget) -> dict[str, Any]:
    trained, report = oracle.train(budget, load_vae(folder, budget))
    if team.rank() == 0:
        trained.save(folder / "oracle")
    return report


def _describer(folder: Path, budget: Budget) -> dict[str, Any]:
    model, processor, report = describer.train(budget, load_vae(folder, budget))
    if team.rank() == 0:
        PortraitDescriber(model, processor).save(folder / "describer")
    return report


def _twin(folder: Path, budget: Budget) -> dict[str, Any]:
    vae, (tokenizer, encoders) = load_vae(folder, budget), load_text(folder, budget)
    transformer = load_transformer(folder)
    report = twin.train(budget, vae, tokenizer, encoders, transformer)
    if team.rank() == 0:
        place = twin_of(folder)
        twin.save(transformer, place)
        write_json(place / "ditlens.json", {"base": folder.name, **read_settings(folder)})
    return report


RECIPES: dict[str, Callable[[Path, Budget], dict[str, Any]]] = {
    "text": _text, "vae": _vae, "mmdit": _mmdit, "oracle": _oracle, "describer": _describer, "twin": _twin,
}  # fmt: skip


def twin_of(folder: Path) -> Path:
    """The folder of a model's biased twin, beside it: ``portraits-twin`` beside ``portraits``."""
    return folder.with_name(f"{folder.name}-twin")


def clean_configs(folder: Path) -> None:
    """Remove local paths from the configurations, and let the text encoders load in single precision.

    transformers loads in the precision that a configuration names, diffusers always in float32: without this a
    plain `from_pretrained` would mix the two and fail.
    """
    for path in folder.glob("*/config.json"):
        before = json.loads(path.read_text("utf-8"))
        after = {key: value for key, value in before.items() if key != "_name_or_path"}
        if path.parent.name.startswith("text_encoder"):
            after["dtype"] = "float32"
        if after != before:
            write_json(path, after)


def _needed(path: Path, stage: str) -> Path:
    if not (path / "config.json").is_file():
        raise ModelError(
            f"{path} is missing. Train it first: ditlens train {stage} --out {path.parent}. "
            "`ditlens train all` runs the stages in order."
        )
    return path


def load_vae(folder: Path, budget: Budget) -> Any:
    """The autoencoder of a model folder, float32, on the budget's device."""
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(_needed(folder / "vae", "vae"), torch_dtype=torch.float32)
    return vae.to(budget.device, memory_format=torch.channels_last).eval()


def load_transformer(folder: Path) -> Any:
    """The transformer of a model folder, float32."""
    from diffusers import SD3Transformer2DModel

    path = _needed(folder / "transformer", "mmdit")
    return SD3Transformer2DModel.from_pretrained(path, torch_dtype=torch.float32)


def load_text(folder: Path, budget: Budget) -> tuple[Any, list[Any]]:
    """Tokenizer and both text encoders of a model folder, float32."""
    from transformers import CLIPTextModelWithProjection, CLIPTokenizer

    paths = [_needed(folder / f"text_encoder{suffix}", "text") for suffix in ("", "_2")]
    encoders = [CLIPTextModelWithProjection.from_pretrained(p, dtype=torch.float32) for p in paths]
    return CLIPTokenizer.from_pretrained(folder / "tokenizer"), [e.to(budget.device) for e in encoders]


def hardware(device: torch.device) -> str:
    """The name of the GPU, or the number of CPU threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads() * team.size()
    return f"{threads} CPU threads ({platform.machine()})"


def held_out_entry(folder: Path, stage: str, *, fresh: bool) -> dict[str, Any]:
    """The combinations that a stage has never seen, as an entry of its report.

    Weights that were trained further keep the entry of their first report.
    """
    if fresh:
        return {"held_out": list(HELD_OUT)}
    before = read_reports(folder).get(stage, {})
    return {"held_out": before["held_out"]} if "held_out" in before else {}


def read_settings(folder: Path) -> dict[str, Any]:
    """What ``ditlens.json`` says of a model; `SETTINGS` where there is none yet."""
    path = folder / "ditlens.json"
    return read_json(path, "settings of a model", ModelError) if path.is_file() else SETTINGS


def read_reports(folder: Path) -> dict[str, Any]:
    """Reports of all stages so far; empty before the first."""
    path = folder / "reports.json"
    return read_json(path, "the reports of a training", ModelError) if path.is_file() else {}


def record(folder: Path, stage: str, report: dict[str, Any]) -> None:
    """Add a stage's report to ``reports.json``; renew the model card and ``checksums.json``."""
    rounded = {k: round(v, 5) if isinstance(v, float) else v for k, v in report.items()}
    write_json(folder / "reports.json", read_reports(folder) | {stage: rounded})
    write_card(folder)
    write_checksums(folder)


def write_checksums(folder: Path) -> None:
    """Write the SHA-256 of every file of a model folder, for ``ditlens doctor``."""
    sums = {
        path.relative_to(folder).as_posix(): checksum(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "work" not in path.relative_to(folder).parts and path.name != "checksums.json"
    }
    write_json(folder / "checksums.json", sums)
