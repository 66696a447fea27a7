"""What all commands share: how they are registered, exit codes, errors and ``--json``."""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable
from typing import Annotated, Any, NamedTuple

import typer
from typer import Option

from ditlens.errors import DitlensError
from ditlens.version import __version__

Json = Annotated[bool, Option("--json", help="Print one JSON object for machines.")]

app = typer.Typer(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\nExample:\n  ditlens demo\n\nEach command has its own help: ditlens edit --help",
    no_args_is_help=True,
    rich_markup_mode=None,  # plain text: instant, and nothing is cut off in a narrow terminal
    pretty_exceptions_enable=False,
)


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


def command(
    example: str, to: typer.Typer = app
) -> Callable[[Callable[..., Outcome]], Callable[..., Outcome]]:
    """Make a command of a function: its name, docstring and signature are name, help and options.

    The command prints the function's `Outcome` (what libraries print in the meantime goes to standard error) and
    exits with 0, with 1 if something failed, or with 130 after Ctrl-C. Wrong usage exits with 2, which is typer's.

    Args:
        example: A use of the command, for its help.
        to: The program or group that the command belongs to.
    """

    def register(run: Callable[..., Outcome]) -> Callable[..., Outcome]:
        @functools.wraps(run)
        def report(as_json: bool, **options: Any) -> None:
            try:
                with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
                    warnings.showwarning = show_warning
                    outcome = run(**options)
            except KeyboardInterrupt:
                typer.echo("stopped", err=True)
                raise typer.Exit(130) from None
            except (DitlensError, OSError) as error:
                outcome = failure(error, typed(str(error), signature.parameters))
            except ModuleNotFoundError as error:
                if (error.name or "").startswith("ditlens"):
                    raise
                outcome = failure(error, f"{error}. To see what is missing, type: ditlens doctor")
            printed = True
            if as_json or outcome.text:
                printed = say(json.dumps(outcome.data, default=plain) if as_json else outcome.text)
            raise typer.Exit(0 if outcome.ok and printed else 1)

        signature = inspect.signature(run, eval_str=True)
        flag = inspect.Parameter("as_json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Json)
        options = [*signature.parameters.values(), flag]
        vars(report)["__signature__"] = signature.replace(parameters=options)
        to.command(epilog=f"\b\nExample:\n  ditlens {example}")(report)
        return run

    return register


def say(text: str) -> bool:
    """Print a result; returns whether that went well, as it does where nobody listens any more (``| head``)."""
    if sys.stdout is None:  # it was closed before the program began
        return True
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it ends
        if isinstance(error, BrokenPipeError):
            return True
        failure(error, f"the work is done, but its result could not be printed: {error.strerror}")
        return False
    return True


def show_warning(message: Warning | str, *_place: Any, **_more: Any) -> None:
    """Say a warning on standard error, without the line of code that Python adds."""
    typer.echo(f"warning: {message}", err=True)


def failure(error: Exception, message: str) -> Outcome:
    """Say what went wrong on standard error; the outcome is for machines."""
    typer.echo(f"error: {message}", err=True)
    return Outcome("", {"error": {"type": type(error).__name__, "message": message}}, ok=False)


def typed(message: str, options: Iterable[str]) -> str:
    """A message with the arguments of Python functions as the options of the command that share their names.

    >>> typed("Try device='cpu', or dtype=torch.float16; seed is -1.", ["device", "dtype"])
    "Try --device 'cpu', or --dtype float16; seed is -1."
    """
    names = "|".join(map(re.escape, options))
    value = r"(?:torch\.)?((?![\s,)]|\.\s|$))?"  # there is none where an option is only named

    def dashed(found: re.Match[str]) -> str:
        return f"--{found[1].replace('_', '-')}{'' if found[2] is None else ' '}"

    return re.sub(rf"\b({names})={value}", dashed, message)


PHRASES = (
    (r"Input should be less than or equal to (\S+)", r"give at most \1"),
    (r"Input should be greater than or equal to (\S+)", r"give at least \1"),
    (r"Input should be a valid integer.*", "give a whole number"),
    (r"Input should be a (?:valid|finite) number.*", "give a number"),
    (r"Value error, ", ""),
)
"""What the library that reads numbers says, and how we say it."""


def wrong_usage(error: Any, as_json: bool) -> int:
    """Say on standard error what was typed wrong, and to machines what every failure says.

    Returns:
        The exit code.
    """
    for theirs, ours in PHRASES:
        error.message = re.sub(theirs, ours, error.message)
    error.show()
    if as_json:
        about = {"type": "UsageError", "message": error.format_message()}
        typer.echo(json.dumps({"error": about}))
    return int(error.exit_code)


def plain(value: Any) -> Any:
    """Turn what JSON does not know (paths, numpy and torch numbers) into what it does."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def show_version(asked: bool) -> None:
    """Print the version and exit."""
    if asked:
        typer.echo(f"ditlens {__version__}")
        raise typer.Exit


@app.callback()
def program(
    version: Annotated[  # noqa: ARG001 - its callback does it
        bool, Option("--version", callback=show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """A lens and editor for diffusion transformers."""
