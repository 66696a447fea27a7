"""A cell that makes what an explorer shows with functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ditlens.analysis.measures import Pair
from ditlens.lens.cache import LatentCache
from ditlens.lens.study.store import STUDIES, Study
from ditlens.views.explorer.inside import Lab
from ditlens.views.explorer.state import ExplorerState, stretch


def cell(
    state: ExplorerState, source: Study | LatentCache, chosen: Sequence[Any], lab: Lab | None, pair: Pair | None,
    steps: Sequence[int],
) -> str:  # fmt: skip
    """The points, the selection, the map and the patched picture, as a notebook cell.

    Args:
        state: What is shown.
        source: Of which study or cache.
        chosen: The selected items.
        lab: The model, if there is one.
        pair: The open picture's prompt and its contrast, if there are any.
        steps: Steps of the map.
    """
    if isinstance(source, Study):
        folder = source.folder
        opened = f"study = dl.open_study({folder.name if folder.parent == STUDIES else str(folder)!r})"
    else:
        opened = "study = cache  # the cache that you gave"
    rows = state.row()
    view = (
        f"dl.UMAP(tokens={rows!r}, max_rows=2000)" if state.view == "UMAP" else f"dl.PCA(2, tokens={rows!r})"
    )
    pass_ = ', pass_="cond"' if len(source.passes) > 1 and "cond" in source.passes else ""
    lines = [
        "import ditlens as dl", "from IPython.display import display", "", opened,
        f"part = study.select([{state.site!r}], step=[{state.step}]{pass_})",
        f"display({view}.fit(part).plot(color={state.color!r}))",
    ]  # fmt: skip
    if chosen:
        lines.append(f"chosen = {list(chosen)}")
        lines += ["study.select(items=chosen)"] * isinstance(source, Study)
    if state.kind == "probe" and state.color:
        lines += ["", f"display(dl.probe(study, {state.color!r}).plot())"]
    if lab is not None and isinstance(source, Study) and state.picture >= 0:
        lines += _drawn(state, source, lab, pair, steps)
    return "\n".join(lines) + "\n"


def _drawn(
    state: ExplorerState, source: Study, lab: Lab, pair: Pair | None, steps: Sequence[int]
) -> list[str]:
    """What the model draws: the picture with its attention, the causal map, the patched picture."""
    total, guidance = lab.settings
    number, seed = source.items[state.picture]
    drawn = f"seed={seed}, steps={total}, guidance={guidance:g}"
    lines = ["", f"model = dl.load({lab.model.name!r})"]
    if state.focus or state.kind == "attention":
        lines += [
            'with dl.capture(model, "*.*.{text,image}.attn.to_{text,image}", passes="cond") as cache:',
            f"    image = model.generate({source.prompt((number, seed))!r}, {drawn})",
        ]
    if pair is None:
        return lines
    if state.kind == "causal":
        stretches = [stretch(state.stretch, step, total) for step in steps]
        lines += [
            f"found = dl.patch(\n    model,\n    {pair.clean!r},\n    {pair.corrupt!r},\n"
            f"    measure={state.color!r}, "
            f"stream={state.stream!r}, steps={stretches}, seeds=[{seed}],\n    sampling_steps={total}, "
            f"guidance={guidance:g}, controls=False,\n)",
            "display(found.plot())",
        ]
    if state.cell:
        block = lab.blocks[state.cell[0]][1]
        site = f"{block.kind}.{block.block}.{state.stream}.in"
        first, stop = stretch(state.stretch, state.cell[1], total)
        lines += [
            f'with dl.capture(model, {site!r}, passes="cond") as donor:',
            f"    other = model.generate({pair.clean!r}, {drawn})",
            f"change = {{{site!r}: dl.replace_with(donor)}}",
            f'with dl.intervene(model, change, steps=range({first}, {stop}), passes="cond"):',
            f"    patched = model.generate({pair.corrupt!r}, {drawn})",
            "display(patched)",
        ]
    return lines
