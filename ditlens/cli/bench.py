"""The commands of ``ditlens bench``: compare editing methods, and let people rate the results."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, get_args

import typer
from typer import Option

import ditlens as dl
from ditlens.cli import options as o
from ditlens.cli.app import Outcome, command
from ditlens.cli.checks import check as check_given
from ditlens.errors import BenchError

if TYPE_CHECKING:
    from ditlens.bench.rating import Rules

OUTPUTS = Path("outputs/bench")
METHODS = (
    f"all, or names with commas: {', '.join(get_args(o.Method))}; a model's world may have more, which a wrong "
    "name lists."
)
DEGREES = "0.25,0.5,0.75,1,1.5"
Folder: TypeAlias = Annotated[
    Path | None,
    o.File(help="What ditlens bench edit wrote; may be left out where there is one.", show_default=False),
]
Pairs: TypeAlias = Annotated[
    int, Option(min=1, metavar="N", help="Pairs that each voter compares, beside repeats and checks.")
]

bench = typer.Typer(
    help="Compare editing methods, and let people rate the results.",
    epilog="\b\nExample:\n  ditlens bench edit --count 20",
    no_args_is_help=True,
)


@command("bench edit --suite portraits --methods ems,flowedit --count 20", to=bench)
def edit(
    context: typer.Context,
    suite: Annotated[str, Option(help="portraits, portraits-dev, a PIE-Bench folder, or a .json.")] = "portraits",
    methods: Annotated[str, Option(help=METHODS)] = "all",
    count: Annotated[int, Option(min=1, metavar="N", help="Edits of the suite.")] = 300,
    degrees: Annotated[Any, Option(parser=o.degrees, metavar="LIST", help="Editing degrees.")] = DEGREES,
    seed: Annotated[int, Option(help="Item k is edited with seed + k.")] = 0,
    workers: o.Workers = 1,
    out: o.Resumed = OUTPUTS,
    model: o.Model = "portraits",
    device: o.Device = "auto",
) -> Outcome:  # fmt: skip
    """Run methods on a suite of edits. The same command again resumes."""
    check_given(model, out=out, suite=suite)
    from ditlens.bench import runner
    from ditlens.bench.entries import choose
    from ditlens.bench.suites import open_suite
    from ditlens.workers import Worker, launch

    worker = Worker.here()
    opened = open_suite(suite, count)
    for remark in opened.remarks if worker.world == 1 else ():  # once, not by every worker
        typer.echo(remark, err=True)
    loaded = dl.load(model, device=worker.device(device))
    entries = choose(loaded, methods)
    run = partial(runner.run_bench, loaded, opened, entries, out, degrees=degrees, seed=seed)
    if workers == 1:
        run()
    elif worker.world > 1:  # one of those that are launched below
        run(share=(worker.rank, worker.world), progress=worker.rank == 0)
        return Outcome("", {})
    else:
        runner.plan_bench(loaded, opened, entries, out, degrees, seed)
        if code := launch(context.obj, workers):
            raise BenchError(
                f"A worker of the benchmark ended (launcher: exit {code}), perhaps because memory ran out; its "
                f"messages above say why. The edits that were made are kept in {out}: type the same command again "
                "to continue, with fewer --workers."
            )
    page = runner.report(out, opened)
    text, data = runner.table_for_people(out, list(entries))
    return Outcome(f"{text}\n\nwrote {page}", {"folder": out, "page": page, "methods": data})


@command("bench page outputs/bench", to=bench)
def page(folder: Folder = None) -> Outcome:
    """Write the page of a benchmark again."""
    from ditlens.bench.report.page import write_page
    from ditlens.bench.report.sheets import write_sheets

    folder = benchmark(folder)
    write_sheets(folder)
    written = write_page(folder)
    return Outcome(f"wrote {written}", {"page": written})


@command("bench vote outputs/bench --port 8765", to=bench)
def vote(
    folder: Folder = None,
    port: Annotated[int, Option(help="Port of the page; 0 takes a free one.")] = 8765,
    host: Annotated[
        str, Option(help="Who may open it; 0.0.0.0 lets in everyone in the network.")
    ] = "127.0.0.1",
    pairs: Pairs = 30,
) -> Outcome:
    """Let people rate the images, on a page of this computer."""
    from ditlens.bench import rating

    folder = benchmark(folder)
    rating.serve(folder, port, host, rules(pairs))
    return Outcome(f"count them with: ditlens bench votes {folder}", {"folder": folder})


@command("bench export outputs/bench --out outputs/voting", to=bench)
def export(
    folder: Folder = None,
    out: Annotated[Path, o.Place(help="New folder to write.")] = Path("outputs/voting"),
    pairs: Pairs = 30,
) -> Outcome:
    """Write the voting page as a folder for any web host."""
    from ditlens.bench import rating

    folder = benchmark(folder)
    written = rating.export_static(folder, out, rules=rules(pairs))
    return Outcome(f"wrote {written}; the key to its images is in {folder / 'votes'}", {"page": written})


@command("bench votes outputs/bench", to=bench)
def votes(folder: Folder = None) -> Outcome:
    """Count the votes."""
    from ditlens.bench.rating import report, tally

    found = tally(benchmark(folder))
    return Outcome(report(found), found)


def benchmark(folder: Path | None) -> Path:
    """The folder of a benchmark, or the only one in ``outputs`` where none was named.

    Raises:
        BenchError: If none was named and there is none, or several.
    """
    if folder is not None:
        return folder
    found = sorted(path.parent for path in OUTPUTS.parent.glob("*/bench.json"))
    if len(found) == 1:
        return found[0]
    here = (
        f"In {OUTPUTS.parent} are {', '.join(map(str, found))}"
        if found
        else f"In {OUTPUTS.parent} there is none"
    )
    raise BenchError(
        f"Which benchmark? {here}. Name its folder, or make one: ditlens bench edit --out FOLDER."
    )


def rules(pairs: int) -> Rules:
    """How ballots of so many pairs are drawn."""
    from ditlens.bench.rating import Rules

    return Rules(pairs, shared=min(10, pairs // 3), repeats=min(4, pairs // 5), checks=min(4, 1 + pairs // 8))
