"""List the sites of a model with their modules, shapes and meanings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ditlens.cards import Carded, Piece, Table
from ditlens.lens.adapters.adapter import Adapter, Block, mlp_of
from ditlens.lens.adapters.table import MERGED, NORMED, WITHIN
from ditlens.lens.hooks import parts_of
from ditlens.lens.site import POINTS, Site, select
from ditlens.tables import streaks


class SiteTable(Carded, list[Site]):
    """The sites of a model; prints as a table."""

    def __init__(self, adapter: Adapter, chosen: Iterable[Site]) -> None:
        super().__init__(chosen)
        self._rows = [describe_site(adapter, site) for site in self]

    def _card(self) -> list[Piece]:
        counts: dict[tuple[str, ...], list[int]] = {}
        for kind, block, *rest in self._rows:
            counts.setdefault((kind, *rest), []).append(int(block or 0))
        rows = [
            [f"{kind}.{_span(blocks)}.{tail}" if tail else kind, block_class, shape, formula]
            for (kind, tail, block_class, shape, formula), blocks in counts.items()
        ]
        return [Table(rows, ("site", "module", "shape", "what"))]


def _span(blocks: list[int]) -> str:
    """Write block numbers as in a pattern: 3, 0:3, {0,4}, {0:3,7}."""
    parts = [
        f"{first}:{last + 1}" if last > first else str(first) for first, last in streaks(sorted(set(blocks)))
    ]
    return parts[0] if len(parts) == 1 else f"{{{','.join(parts)}}}"


def describe_site(adapter: Adapter, site: Site) -> list[str]:
    """Kind, block, stream and point, class of the hooked module, shape, meaning."""
    port = adapter.port(site)
    name = type(port.module).__name__
    if site.kind == "cond":
        return ["cond", "", "", name, "items, 1, width", "modulates all blocks: timestep and pooled text"]
    shape = f"items, {site.stream} tokens, " + ("heads * channels" if site.point in "qkv" else "width")
    if site.point.startswith("attn.to_"):
        shape = f"items, {site.stream} tokens, {site.point.removeprefix('attn.to_')} tokens"
    meaning = _meaning(adapter.blocks[site.kind, site.block], site)
    return [site.kind, str(site.block), f"{site.stream}.{site.point}", name, shape, meaning]


def _meaning(block: Block, site: Site) -> str:
    """What a site is in its kind of block."""
    update = block.table.update
    if site.point == "out":
        return f"{POINTS['out']}: {_formula(block, site.stream)}"
    if site.point == "attn.out" and update == MERGED:
        return "the attention's output, before the projection that it shares with the feed-forward"
    if site.point == "attn.out" and update == WITHIN:
        return "the output of attention and feed-forward, projected together, before the gate"
    if site.point in ("attn.out", "mlp.out") and update == NORMED:
        return POINTS[site.point].replace("the gate", "its norm and the gate")
    return POINTS[site.point]


def _formula(block: Block, stream: str) -> str:
    """What a block does to a stream x; g and g' are gates."""
    also, sees = block.table.also, block.table.form == "one" or stream == "image"
    added = f" + what {also} adds" if also and sees and getattr(block.module, also, None) is not None else ""
    mlp = "mlp.out" if mlp_of(block, stream) else "its feed-forward"
    return block.table.update.format(also=added, mlp=mlp)


def sites(model: Any, patterns: str | Iterable[str] = "*.*.*.*") -> SiteTable:
    """Every hook point of a model; prints as a table of address, module, shape and meaning.

    >>> dl.sites(model, "joint.*.image.{in,mlp.out}")
    site                     module                 shape                       what
    -----------------------  ---------------------  --------------------------  ------------------------...
    joint.0:2.image.in       JointTransformerBlock  items, image tokens, width  what enters the block
    joint.0:2.image.mlp.out  FeedForward            items, image tokens, width  the feed-forward's output, ...

    Args:
        model: As in `capture`.
        patterns: Which; all by default.
    """
    adapter = Adapter(parts_of(model)[0])
    return SiteTable(adapter, select(patterns, adapter.sites, adapter.absent))
