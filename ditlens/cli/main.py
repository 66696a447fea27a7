"""The `ditlens` command: its options, its exit codes and how it reports errors.

With `--json`, standard output holds one JSON object and nothing else; progress and messages go to standard
error. What the commands do is in `commands.py`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ditlens.cli import commands
from ditlens.cli.commands import Outcome
from ditlens.errors import DitlensError
from ditlens.version import __version__

PICTURES = (".png", ".jpg", ".jpeg", ".webp")
STAGES = ("text", "vae", "mmdit", "oracle", "describer", "all")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: The words after ``ditlens``; those of the process by default.

    Returns:
        The exit code: 0 done, 1 failed, 130 stopped with Ctrl-C. (Wrong usage leaves with 2.)
    """
    options = build_parser().parse_args(argv)
    options.arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        # What libraries print in the meantime goes to standard error.
        with contextlib.redirect_stdout(sys.stderr):
            outcome: Outcome = options.command(options)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except (DitlensError, OSError) as error:
        return fail(error, str(error), options.json)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("ditlens"):
            raise
        return fail(error, f"{error}. To see what is missing, type: ditlens doctor", options.json)
    print(json.dumps(outcome.data, default=plain) if options.json else outcome.text)
    return 0 if outcome.ok else 1


def fail(error: Exception, message: str, as_json: bool) -> int:
    """Say what went wrong, to people and, if asked, to machines; returns the exit code."""
    print(f"error: {message}", file=sys.stderr)
    if as_json:
        print(json.dumps({"error": {"type": type(error).__name__, "message": message}}))
    return 1


def plain(value: Any) -> Any:
    """Turn what JSON does not know (paths, numpy and torch numbers) into what it does."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def build_parser() -> argparse.ArgumentParser:
    """Describe all commands and their options."""
    parser = argparse.ArgumentParser(
        prog="ditlens",
        description="A lens and editor for diffusion transformers.",
        epilog="example:\n  ditlens demo\n\neach command has its own help: ditlens edit --help",
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"ditlens {__version__}")
    group = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(run: Callable[[argparse.Namespace], Outcome], example: str) -> Callable[..., argparse.Action]:
        """Add a command that is named and described like the function; returns its `add_argument`."""
        epilog = f"example:\n  {example}"
        described = group.add_parser(
            run.__name__,
            help=run.__doc__,
            description=run.__doc__,
            epilog=epilog,
            formatter_class=HelpFormatter,
        )
        described.add_argument("--json", action="store_true", help="print one JSON object for machines")
        described.set_defaults(command=run)
        return described.add_argument

    add = command(
        commands.generate, 'ditlens generate "a portrait with a big smile and red hair" --seed 3 --out a.png'
    )
    add("prompt", metavar="PROMPT", help="what the picture shows")
    add("--seed", type=int, default=0, help="the same seed gives the same picture")
    add("--steps", type=positive_int, metavar="N", help="sampling steps; the model's own if not given")
    add("--guidance", type=number, metavar="G", help="guidance scale; the model's own if not given")
    add("--out", type=picture, default=Path("outputs/generate.png"), metavar="FILE", help="picture to write")
    with_model(add)

    add = command(commands.edit, 'ditlens edit me.png "make her smile more" --degree 1.0 --out outputs/smile')
    add("image", metavar="IMAGE", type=Path, help="picture to edit, of any size")
    add("instruction", metavar="INSTRUCTION", help="what to change")
    add("--degree", type=number, default=1.0, help="0 is the reconstruction, 1 is the full edit")
    add("--seed", type=int, default=0, help="the same seed gives the same edit")
    add(
        "--method",
        metavar="NAME",
        help="ems (the model's own), flowedit, sdedit ...; a wrong name lists them all",
    )
    add(
        "--mask",
        default="auto",
        metavar="MASK",
        help="none, difference, attention, exact, or a picture (white may change)",
    )
    add(
        "--describer",
        metavar="WHO",
        help="own, a model's name or folder, an address#model, or a recorded .json",
    )
    add(
        "--encoders",
        type=encoders,
        metavar="LIST",
        help="text encoders whose part of the text moves, by name or number, e.g. clip,clip_2 or 0,1; all if "
        "not given; a wrong name lists them all",
    )
    add("--source-text", metavar="TEXT", help="what the picture shows, instead of the describer's text")
    add("--target-text", metavar="TEXT", help="what it should show, instead of the describer's text")
    add("--out", type=Path, default=Path("outputs/edit"), metavar="DIR", help="folder to write in")
    with_model(add)

    add = command(commands.check, "ditlens check me.png")
    add("image", metavar="IMAGE", type=Path, help="picture, of any size")
    with_model(add)

    add = command(commands.demo, "ditlens demo")
    add("--out", type=Path, default=Path("outputs/demo"), metavar="DIR", help="folder to write in")
    with_model(add)

    add = command(
        commands.capture,
        'ditlens capture --prompts prompts.txt --seeds 0:4 --sites "joint.*.{text,image}.out" --reduce mean '
        "--out outputs/study",
    )
    add("--prompts", type=Path, required=True, metavar="FILE", help="text file with one prompt on each line")
    add("--seeds", type=numbers, default=(0,), metavar="LIST", help="0:4 for 0 to 3, or 1,5,7")
    add("--sites", default="*.*.*.out", metavar="PATTERN", help="hook points, see ditlens.sites")
    add("--steps", type=numbers, metavar="LIST", help="sampling steps to keep; all if not given")
    add("--passes", type=passes, default="cond", metavar="WHICH", help="passes to keep: cond, uncond or both")
    add("--reduce", metavar="HOW", help="mean, or sketch:64; all tokens if not given")
    add("--dtype", metavar="TYPE", help="float16, bfloat16 or float32; the model's own if not given")
    add(
        "--sampling-steps",
        type=positive_int,
        metavar="N",
        help="steps of sampling; the model's own if not given",
    )
    add("--guidance", type=number, metavar="G", help="guidance scale; the model's own if not given")
    add("--limit", default="1 GB", metavar="SIZE", help="most memory for one picture")
    add(
        "--workers",
        type=positive_int,
        default=1,
        metavar="N",
        help="processes on this machine, one for each GPU",
    )
    add("--dry-run", action="store_true", help="only say how much it will be")
    add(
        "--out",
        type=Path,
        default=Path("outputs/study"),
        metavar="DIR",
        help="folder; the same again goes on",
    )
    with_model(add)

    add = command(commands.study, "ditlens study outputs/study --verify")
    add("folder", metavar="DIR", type=Path, help="what ditlens capture wrote")
    add("--verify", action="store_true", help="read every shard and compare its checksum")

    add = command(commands.bench, "ditlens bench edit --suite portraits --methods ems,flowedit --count 20")
    add(
        "what",
        metavar="WHAT",
        choices=("edit", "page", "vote", "export", "votes"),
        help="edit: run it; page: write its page anew; vote: let people rate its pictures; export: the same as a "
        "folder for any web host; votes: count the votes",
    )
    add("folder", nargs="?", type=Path, metavar="DIR", help="folder of the benchmark, for all but edit")
    add(
        "--suite",
        default="portraits",
        metavar="SUITE",
        help="portraits, portraits-dev, a PIE-Bench folder, a .json",
    )
    add(
        "--methods",
        default="all",
        metavar="LIST",
        help="all, or names with commas; a wrong name lists them all",
    )
    add("--count", type=positive_int, default=300, metavar="N", help="edits of the suite")
    add(
        "--degrees",
        type=degrees,
        default=(0.25, 0.5, 0.75, 1.0, 1.5),
        metavar="LIST",
        help="editing degrees, e.g. 0.5,1",
    )
    add("--seed", type=int, default=0, help="item k is edited with seed + k")
    add(
        "--workers",
        type=positive_int,
        default=1,
        metavar="N",
        help="processes, each with its share of the cores",
    )
    add(
        "--out",
        type=Path,
        default=Path("outputs/bench"),
        metavar="DIR",
        help="folder; the same again goes on",
    )
    add("--port", type=int, default=8765, metavar="N", help="vote: port of the page; 0 takes a free one")
    add("--host", default="127.0.0.1", help="vote: who may open it; 0.0.0.0 lets in everyone in the network")
    add(
        "--pairs",
        type=positive_int,
        default=30,
        metavar="N",
        help="vote, export: pairs that each voter compares",
    )
    with_model(add)

    command(commands.doctor, "ditlens doctor")

    add = command(commands.train, "ditlens train oracle --minutes 10 --resume")
    add("stage", choices=STAGES, help="the part to train; all trains every part in order")
    add("--device", default="auto", help="auto, cpu or cuda; a GPU with less than 24 GB takes smaller steps")
    add("--minutes", type=positive_float, metavar="M", help="time budget; the recipe's own if not given")
    add("--resume", action="store_true", help="go on from the last checkpoint")
    add(
        "--workers",
        type=positive_int,
        default=1,
        metavar="N",
        help="processes that share every step: one for each CPU core, or for each GPU",
    )
    add("--out", type=Path, default=Path("outputs/train"), metavar="DIR", help="model folder to write")
    return parser


def with_model(add: Callable[..., argparse.Action]) -> None:
    """Add the options of every command that loads a model."""
    add("--model", default="portraits", help="name or folder of the model")
    add("--device", default="auto", help="auto, cpu, cuda or mps")


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Keeps the line breaks of the example and tells the defaults that are values."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        told = action.option_strings and isinstance(action.default, (int, float, str, Path))
        if not told or action.default is False or action.default == argparse.SUPPRESS:
            return action.help
        return f"{action.help} (default: %(default)s)"


def number(text: str) -> float:
    """Read a finite number."""
    value = float(text)
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a finite number")
    return value


def positive_float(text: str) -> float:
    """Read a number above zero."""
    value = number(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not above zero")
    return value


def positive_int(text: str) -> int:
    """Read a whole number above zero."""
    if (value := int(text)) <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not above zero")
    return value


def numbers(text: str) -> tuple[int, ...]:
    """Read ``0:4`` or ``1,5,7``."""
    first, colon, last = text.partition(":")
    try:
        found = tuple(range(int(first or 0), int(last)) if colon else map(int, text.split(",")))
    except ValueError:
        found = ()
    if not found or min(found) < 0:
        raise argparse.ArgumentTypeError(f"{text!r} names no numbers from 0 on; write 0:4 or 1,5,7")
    return found


def passes(text: str) -> tuple[str, ...]:
    """Read ``cond``, ``uncond``, or ``both``, which is ``cond,uncond``."""
    found = ("cond", "uncond") if text == "both" else tuple(sorted(set(text.split(","))))
    if not set(found) <= {"cond", "uncond"}:
        raise argparse.ArgumentTypeError(f"{text!r} is none of cond, uncond, both")
    return found


def encoders(text: str) -> tuple[int | str, ...]:
    """Read ``clip,clip_2`` or ``0,1``; which there are depends on the model."""
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} names no text encoders; write clip,clip_2 or 0,1")
    return tuple(int(part) if part.isdecimal() else part for part in found)


def degrees(text: str) -> tuple[float, ...]:
    """Read ``0.5,1,1.5``."""
    found = tuple(sorted({number(part) for part in text.split(",") if part.strip()}))
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} names no degrees; write 0.5,1,1.5")
    return found


def picture(text: str) -> Path:
    """Read the name of a picture file to write."""
    path = Path(text)
    if path.suffix.lower() not in PICTURES:
        raise argparse.ArgumentTypeError(f"{text!r} must end in one of {', '.join(PICTURES)}")
    return path
