"""Run a study: capture every prompt with every seed, to disk, by one worker or many.

Every worker walks through the same list and skips what is finished or claimed by another. So a killed run resumes
when it is started again, and workers may come and go. They exchange no messages: the folder is all that they share.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ditlens import flow
from ditlens.arguments import (
    COUNT,
    FLAG,
    INDEX,
    NOTHING,
    NUMBER,
    SEED_OR_SEEDS,
    TEXT,
    listed,
    one_of,
    several,
    shown,
    takes,
)
from ditlens.errors import (
    ArchitectureError,
    BudgetError,
    DitlensError,
    MissingDependencyError,
    ModelError,
    SettingError,
    SiteError,
    StudyError,
    WriteError,
)
from ditlens.files import read_csv, read_lines, remove_leftovers, user_path, write_json
from ditlens.images import to_image, to_jpeg
from ditlens.lens.cache import SITE, LatentCache
from ditlens.lens.captures import capture
from ditlens.lens.estimates import Estimate, estimate
from ditlens.lens.selection import Tokens, size_of, token_numbers
from ditlens.lens.study.claims import claim
from ditlens.lens.study.manifest import Manifest
from ditlens.lens.study.shards import item_name, write_item
from ditlens.lens.study.store import RESERVED, Study, failure_path, read_failure
from ditlens.models.identity import fingerprint, setup
from ditlens.models.model import MODEL, Model
from ditlens.tables import Progress, human, progress_bar
from ditlens.workers import Worker

ATTEMPTS = 3
"""How often an item that crashes is tried in one run; an error that ditlens raises on purpose would recur."""
FATAL = (
    SettingError,
    SiteError,
    BudgetError,
    ArchitectureError,
    ModelError,
    MissingDependencyError,
    WriteError,
)
"""Errors that every item would raise: they end the study."""
SITES = several(SITE)
FORMATS = ("float16", "bfloat16", "float32")
"""Number formats to keep."""


@takes(
    model=MODEL, prompts=several(TEXT, "a list of texts"), sites=SITES, sampling_steps=COUNT, guidance=NUMBER,
    seeds=SEED_OR_SEEDS, dtype=one_of(*FORMATS),
    reduce=TEXT | NOTHING, images=FLAG, paired=FLAG,
    steps=several(INDEX, "a list of step numbers from 0"), passes=several(one_of("cond", "uncond")),
)  # fmt: skip
def plan_study(
    model: Model,
    prompts: str | Sequence[str],
    seeds: int | Sequence[int],
    sites: str | Iterable[str],
    *,
    steps: int | Sequence[int] | None = None,
    passes: str | Sequence[str] = "cond",
    reduce: str | None = "sketch:64",
    dtype: str | None = None,
    tokens: Tokens = None,
    images: bool = True,
    columns: Mapping[str, Sequence[Any]] | None = None,
    paired: bool = False,
    sampling_steps: int | None = None,
    guidance: float | None = None,
) -> Manifest:
    """Describe a study.

    Args:
        model: The model.
        prompts: One or more texts.
        seeds: One or more seeds for each of them.
        sites: Patterns as in `ditlens.capture`.
        steps: One or more steps to keep; None for all.
        passes: Guidance passes to keep, one or more.
        reduce: ``"sketch:64"`` keeps every token, projected to a width of 64; None keeps them whole; ``"mean"``
            keeps their mean, from which little can be told of what lies in one place, like a smile.
        dtype: One of `FORMATS`, or None for the model's own.
        tokens: Tokens to keep, by stream; None for all.
        images: Whether to keep the images too, as JPEG, and what the oracle of the model's world reads in them.
        columns: What else is known of every prompt, by name: one number or text for each, e.g.
            ``{"carrier": [0, 0, 1]}``.
        paired: Whether the seeds are one for each prompt, in order, instead of all of them for each.
        sampling_steps: Sampling steps; the model's own number by default.
        guidance: Guidance; the model's own by default.

    Raises:
        SettingError: If there are no prompts or seeds, a setting keeps nothing, columns or paired seeds are not as
            many as the prompts, or a column has the name of an attribute that is measured.

    >>> plan = plan_study(model, ["a man", "a woman"], [0, 1], "joint.*.image.out", columns={"name": ["m", "w"]})
    >>> plan
    Plan of a study of ...: 2 prompts, 2 seeds: 4 items
      sites joint.*.image.out
      steps all 4, passes cond
      keeps all tokens, sketch:64; images
      columns name
    >>> plan.items
    [(0, 0), (0, 1), (1, 0), (1, 1)]
    """
    prompts, seeds = listed(prompts), [flow.seed_of(seed) for seed in listed(seeds)]
    if len(set(seeds)) < len(seeds):
        raise SettingError(f"seeds has one twice: {list(seeds)}. Name every seed once.")
    if paired and len(seeds) != len(prompts):
        raise SettingError(
            f"paired=True: there are {len(seeds)} seeds for {len(prompts)} prompts; give one each."
        )
    columns = {str(name): list(values) for name, values in (columns or {}).items()}
    check_columns(columns, len(prompts), model.world.attributes if images and model.world else ())
    settings: dict[str, Any] = {
        "sites": [str(site) for site in listed(sites)],
        "steps": None if steps is None else listed(steps),
        "passes": listed(passes), "reduce": reduce, "dtype": dtype,
        "tokens": token_numbers(tokens) or None, "images": images,
        "sampling_steps": sampling_steps or model.defaults["steps"],
        "guidance": model.defaults["guidance"] if guidance is None else guidance,
    }  # fmt: skip
    settings |= {"paired": True} if paired else {}
    settings["sigmas"] = model.sigmas(settings["sampling_steps"])[:-1].tolist()
    check_steps(settings["steps"], settings["sampling_steps"])
    check_passes(settings["passes"], settings["guidance"], model.distilled)
    return Manifest(
        model.name, fingerprint(model), tuple(prompts), tuple(seeds), settings, setup(model), columns
    )


def check_columns(columns: Mapping[str, Sequence[Any]], count: int, measured: Iterable[str] = ()) -> None:
    """Compare what is known of every prompt with the prompts.

    Args:
        columns: The columns.
        count: Number of prompts.
        measured: Names of the attributes that the oracle will read in the images.

    Raises:
        SettingError: If a column has another length, a reserved or measured name, or values that are no numbers or
            texts.
    """
    for name, values in columns.items():
        if name in RESERVED:
            raise SettingError(f"columns has {name!r}, which every study has already. Give it another name.")
        if name in measured:
            raise SettingError(
                f"columns has {name!r}, but that is the column of what the oracle reads in the images. Give yours "
                f"another name, e.g. 'my {name}'; or keep no images (images=False)."
            )
        if len(values) != count:
            raise SettingError(
                f"The column {name!r} has {len(values)} values for {count} prompts; give one each."
            )
        wrong = [value for value in values if type(value) not in (bool, int, float, str, type(None))]
        if wrong:
            raise SettingError(f"The column {name!r} holds {shown(wrong[0])}; give numbers or texts.")


def check_steps(steps: Sequence[int] | None, sampling_steps: int) -> None:
    """Compare the steps to keep with those of the sampling.

    Raises:
        SettingError: If one of them does not exist.
    """
    if steps is None:
        return
    wrong = [step for step in steps if not 0 <= step < sampling_steps]
    if wrong or not steps:
        raise SettingError(
            f"steps={list(steps)}: the sampling has {sampling_steps} steps, 0 to {sampling_steps - 1}"
            f"{f', and no {wrong}' if wrong else ''}. Choose among them, or sample with more steps."
        )


def check_passes(passes: Sequence[str], guidance: float, distilled: bool = False) -> None:
    """Compare the guidance passes to keep with those of the sampling.

    Args:
        passes: The passes to keep.
        guidance: Guidance of the sampling.
        distilled: Whether the model has embedded guidance, `Model.distilled`.

    Raises:
        SettingError: If one of them is unknown, or does not exist.
    """
    if "uncond" in passes and distilled:
        raise SettingError(
            "This model is guidance-distilled: its guidance is embedded, and there is no pass 'uncond'. Keep "
            "'cond' (--passes cond); for the other, make a study of the empty prompt."
        )
    absent = "uncond" if guidance == 1 else "cond" if guidance == 0 else None
    if absent in passes and not distilled:
        raise SettingError(
            f"With guidance {guidance:g} there is no pass {absent!r}. Keep the other, or choose another guidance."
        )


def capturing(model: Model, manifest: Manifest, limit: str | float) -> capture:
    """The capture of an item, not yet begun; raises an error for wrong settings."""
    s = manifest.settings
    return capture(model, s["sites"], steps=s["steps"], limit=limit, **_kept(s))


def capture_item(
    model: Model, manifest: Manifest, prompt: int, seed: int, limit: str | float
) -> tuple[LatentCache, torch.Tensor]:
    """The cache of one item, and the latents of its image."""
    with capturing(model, manifest, limit) as cache:
        latents = sample_item(model, manifest, prompt, seed, manifest.settings["sampling_steps"])
    return cache, latents


def sample_item(model: Model, manifest: Manifest, prompt: int, seed: int, steps: int) -> torch.Tensor:
    """Sample the latents of one item."""
    guidance = manifest.settings["guidance"]
    return flow.sample(
        model, model.noise([seed]), model.sigmas(steps), model.encode_text([manifest.prompts[prompt]]),
        null_text=model.encode_text("").named("uncond") if guidance != 1 else None, guidance=guidance,
    )  # fmt: skip


def _kept(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that capturing and estimating share."""
    dtype = settings["dtype"]
    return {"passes": settings["passes"], "reduce": settings["reduce"], "tokens": settings.get("tokens"),
            "dtype": getattr(torch, dtype) if dtype else None}  # fmt: skip


def estimate_study(model: Model, manifest: Manifest) -> Estimate:
    """The size of a study's hidden states, measured on its first item with one sampling step.

    See `ditlens.estimate`. The images, which are JPEG files, are not counted.
    """
    s = manifest.settings
    return estimate(
        model, s["sites"], steps=s["steps"], sampling_steps=s["sampling_steps"], items=len(manifest.items),
        run=lambda: sample_item(model, manifest, 0, manifest.seeds[0], 1), **_kept(s),
    )  # fmt: skip


def over_limit(size: Estimate, limit: str | float, sampling_steps: int) -> str:
    """Why a study exceeds its memory, and the next smaller choice as an option of the command; empty if it fits.

    Args:
        size: The size of the study, from `estimate_study`.
        limit: Most memory for one item; a study holds one at a time.
        sampling_steps: Steps of sampling.
    """
    most = size_of(limit)
    if size.item <= most:
        return ""
    said = f"One image takes {human(size.item)}, more than --limit {human(most)}. "
    each = {name: total / size.items for name, total in with_options(size, sampling_steps).smaller.items()}
    fitting = {option: bytes_ for option, bytes_ in each.items() if bytes_ <= most}
    if fitting:
        best = max(fitting, key=fitting.__getitem__)
        said += f"The next smaller choice: {best} ({human(fitting[best])})"
    else:
        choices = ", ".join(f"{option} ({human(bytes_)})" for option, bytes_ in each.items())
        said += f"No single choice is small enough; combine {choices}" if choices else "Choose fewer sites"
    return f"{said}; or allow more: --limit '{human(size.item * 1.1)}'."


def with_options(size: Estimate, sampling_steps: int) -> Estimate:
    """An estimate whose smaller settings are options of ``ditlens capture``."""
    smaller = {as_option(setting, sampling_steps): total for setting, total in size.smaller.items()}
    return replace(size, smaller=smaller)


def as_option(setting: str, sampling_steps: int) -> str:
    """A setting of `ditlens.estimate`, such as ``reduce='mean'``, as an option of ``ditlens capture``."""
    name, _, value = setting.partition("=")
    if name == "steps":
        value = ",".join(str(step) for step in range(0, sampling_steps, 4))
    value = value.strip("'").removeprefix("torch.")
    return f"--{name} {value}"


def run_study(
    model: Model,
    manifest: Manifest,
    folder: str | Path,
    *,
    worker: Worker | None = None,
    limit: str | float = "1 GB",
    progress: bool | Progress = True,
) -> Study:
    """Capture the missing items of a study.

    Args:
        model: The model; must be the manifest's.
        manifest: What to capture, from `plan_study`.
        folder: Where; may hold a part of the same study.
        worker: Which of several workers this is; read from the environment by default.
        limit: Most memory for one item.
        progress: Whether worker 0 shows a bar; or a function, called with (finished, total) after every item.

    Returns:
        The study. Items that crashed `ATTEMPTS` times, or that cannot be captured, are in ``study.failures``.

    Raises:
        StudyError: If the folder holds another study.
        ModelError: If the model is not the manifest's.
        DitlensError: If a setting does not fit the model or its limit: every item would fail alike.
    """
    worker, study = worker or Worker.here(), begin_study(model, manifest, user_path(folder), limit)
    items = manifest.items
    first = worker.rank * len(items) // worker.world
    order = items[first:] + items[:first]
    tries = dict.fromkeys(items, 0)
    with progress_bar("items", worker.rank == 0 and progress) as show:
        while todo := [i for i in order if not study.path(i).is_file() and tries[i] < ATTEMPTS]:
            waiting = True
            for item in todo:
                used = attempt(model, study, item, limit)
                if used is None:
                    continue
                waiting = False
                tries[item] += used
                if not used:
                    show(len(items) - len(study.missing), len(items))
            if waiting:
                time.sleep(0.2)  # other workers have the rest; if one dies, its items are taken over
    return Study(study.folder)


def begin_study(model: Model, manifest: Manifest, folder: Path, limit: str | float) -> Study:
    """Check the model and the settings, then write the manifest and remove what killed workers left.

    Raises:
        ModelError: If the model is not the manifest's.
        DitlensError: As `run_study`.
    """
    if fingerprint(model) != manifest.fingerprint:
        now = ", ".join(f"{name} {value}" for name, value in setup(model).items())
        raise ModelError(
            f"{model.name} has other weights, adapters, number format or scheduler than the study's plan (now: "
            f"{now}). Plan it again with this model: plan_study(model, ...). Workers of Ray load the model by its "
            "name: install the same on every machine, and save what you change in memory, e.g. a LoRA, as a model."
        )
    capturing(model, manifest, limit)
    manifest.begin(folder)
    remove_leftovers(folder)
    return Study(folder)


def attempt(model: Model, study: Study, item: tuple[int, int], limit: str | float) -> int | None:
    """Capture and write an item, unless it is finished or claimed by another worker.

    Returns:
        How many of its `ATTEMPTS` that used up: 0 if it succeeded, all if it would fail again; None if another
        worker has it.

    Raises:
        DitlensError: If every item would fail alike.
    """
    with claim(study.folder, item_name(*item)) as mine:
        if not mine or study.path(item).is_file():
            return None
        try:
            cache, latents = capture_item(model, study.manifest, *item, limit)
            shown_as = image_of(model, latents) if study.manifest.settings.get("images") else (b"", {})
            write_item(study.folder, *item, cache, study.manifest.key, *shown_as)
            failure_path(study.folder, item).unlink(missing_ok=True)
        except Exception as error:
            known = isinstance(error, DitlensError)
            if isinstance(error, FATAL) or (known and len(study.missing) == len(study.manifest.items)):
                raise  # it is the settings, not this item
            record_failure(study.folder, item, error)
            return ATTEMPTS if known else 1
    return 0


def image_of(model: Model, latents: torch.Tensor) -> tuple[bytes, dict[str, float | str | None]]:
    """The image of latents as a JPEG file, and its attributes, if the model has a world to read them.

    Attributes that nobody can see in the image, such as the gaze behind sunglasses, are None.
    """
    pixels = model.decode(latents)
    image = to_jpeg(to_image(pixels))
    if model.world is None:
        return image, {}
    read = model.world.measure(pixels)[0]
    return image, read | dict.fromkeys(model.world.hidden(read))


def record_failure(folder: Path, item: tuple[int, int], error: Exception) -> None:
    """Write why an item failed, and how often it has."""
    path = failure_path(folder, item)
    trace = "".join(traceback.format_exception(error))
    write_json(
        path,
        {
            "attempts": read_failure(path)["attempts"] + 1,
            "error": f"{type(error).__name__}: {error}",
            "trace": trace,
        },
    )


def read_prompts(path: str | Path) -> tuple[list[str], dict[str, list[float | str | None]]]:
    """Prompts of a file, and what else it says of each.

    Args:
        path: A text file with one prompt on each line; empty lines and lines that begin with # are skipped. Or a
            ``.csv`` file with a column ``prompt``; its other columns become those of the study, as numbers where
            all of their values are. Empty cells are None: missing.

    Returns:
        The prompts, and the other columns by name.

    Raises:
        StudyError: If the file cannot be read or has no prompts.
    """
    file, columns = user_path(path, StudyError), {}
    if file.suffix.lower() == ".csv":
        names, rows = read_csv(file, "a list of prompts", StudyError)
        if "prompt" not in names:
            raise StudyError(
                f"{path} has the columns {', '.join(names) or 'none'}; one must be named prompt."
            )
        prompts = [row["prompt"].strip() for row in rows]
        columns = {name: as_numbers([row[name] for row in rows]) for name in names if name != "prompt"}
    else:
        lines = [line.strip() for line in read_lines(file, "a list of prompts", StudyError)]
        prompts = [line for line in lines if line and not line.startswith("#")]
    if not any(prompts):
        raise StudyError(f"{path} has no prompts. Write one on each line.")
    return prompts, columns


def as_numbers(values: list[str]) -> list[float | str | None]:
    """Texts as numbers, if all of them are; empty ones are None, whatever the others are."""
    given = [value if value.strip() else None for value in values]
    try:
        return [None if value is None else float(value) for value in given]
    except ValueError:
        return [*given]
