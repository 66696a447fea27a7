"""A cell that makes what an explorer shows with functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ditlens.lens.study.store import STUDIES, Study
from ditlens.views.explorer.state import stretch

if TYPE_CHECKING:
    from ditlens.views.explorer.session import Session


def cell(session: Session) -> str:
    """The points, the selection, the map and the patched picture of a session, as a notebook cell."""
    state, source = session.state, session.material.source
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
    if state.chosen:
        lines.append(f"chosen = {session.selection}")
        lines += ["study.select(items=chosen)"] * isinstance(source, Study)
    if state.kind == "probe" and state.color:
        lines += ["", f"display(dl.probe(study, {state.color!r}).plot())"]
    if session.lab is not None and isinstance(source, Study) and state.picture >= 0:
        lines += _drawn(session)
    return "\n".join(lines) + "\n"


def _drawn(session: Session) -> list[str]:
    """What the model draws: the picture with its attention, the causal map, the patched picture."""
    state, lab, source = session.state, session.lab, session.material.source
    assert lab is not None and isinstance(source, Study)
    steps, guidance = lab.settings
    number, seed = source.items[state.picture]
    prompt = source.prompt((number, seed))
    drawn = f"seed={seed}, steps={steps}, guidance={guidance:g}"
    lines = ["", f"model = dl.load({lab.model.name!r})"]
    if state.focus or state.kind == "attention":
        lines += [
            'with dl.capture(model, "*.*.{text,image}.attn.to_{text,image}", passes="cond") as cache:',
            f"    image = model.generate({prompt!r}, {drawn})",
        ]
    found = session.contrast
    if found is None:
        return lines
    clean, corrupt = found.pair.clean, found.pair.corrupt
    if state.kind == "causal":
        stretches = [stretch(state.stretch, step, steps) for step in session.steps]
        lines += [
            f"found = dl.patch(\n    model, {clean!r},\n    {corrupt!r},\n    measure={state.color!r}, "
            f"stream={state.stream!r}, steps={stretches}, seeds=[{seed}],\n    sampling_steps={steps}, "
            f"guidance={guidance:g}, controls=False,\n)",
            "display(found.plot())",
        ]
    if state.cell:
        block = lab.blocks[state.cell[0]][1]
        site = f"{block.kind}.{block.block}.{state.stream}.in"
        first, stop = stretch(state.stretch, state.cell[1], steps)
        lines += [
            f'with dl.capture(model, {site!r}, passes="cond") as donor:',
            f"    other = model.generate({clean!r}, {drawn})",
            f"with dl.intervene(model, {{{site!r}: dl.replace_with(donor)}}, steps=range({first}, {stop}), "
            'passes="cond"):',
            f"    patched = model.generate({corrupt!r}, {drawn})",
            "display(patched)",
        ]
    return lines
