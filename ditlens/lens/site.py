"""Addresses of hidden states inside a diffusion transformer; no torch in here.

A `Site` is block x stream x point, printed ``joint.3.image.out``:

- *kind*: ``joint`` blocks keep text and image in two streams (MMDiT's double-stream blocks), ``single`` blocks
  hold both in one sequence;
- *stream*: ``text`` or ``image`` (video tokens are image tokens here);
- *point*: see `POINTS`.

``cond`` is the one site without a block: the vector that modulates all of them (timestep and pooled text).

Patterns select several sites: ``*`` for any block, stream or kind, ``{a,b}`` for a choice, ``2:5`` for blocks 2
to 4, ``-1`` for the last block: ``joint.*.{text,image}.out``, ``*.0:6.image.attn.out``.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ditlens.arguments import listed, shown
from ditlens.errors import SiteError

Stream = Literal["text", "image"]
STREAMS: tuple[Stream, Stream] = ("text", "image")
KINDS = ("joint", "single")

POINTS = {
    "in": "what enters the block",
    "out": "what leaves the block",
    "attn.out": "the attention's output after its projection, before the gate",
    "mlp.out": "the feed-forward's output, before the gate",
    "q": "queries, as the softmax takes them: normalised, and rotated where the model does that (FLUX)",
    "k": "keys, likewise",
    "v": "values",
    "attn.to_text": "attention of this stream's tokens to the text tokens",
    "attn.to_image": "attention of this stream's tokens to the image tokens",
    "attn.to_other": "their attention to all other tokens (padding, time, reference images), summed",
}
"""Every point of a block, with what it is. The three attn.to_... rows together sum to 1."""
SOFTMAX_POINTS = ("q", "k", "v", "attn.to_text", "attn.to_image", "attn.to_other")
"""Points inside the attention: read at the softmax, not at a module."""


@dataclass(frozen=True)
class Site:
    """One address; ``str(site)`` and `Site.parse` are inverse.

    >>> site = Site.parse("joint.3.image.attn.out")
    >>> site
    Site(kind='joint', block=3, stream='image', point='attn.out')
    >>> str(site)
    'joint.3.image.attn.out'

    Attributes:
        kind: ``"joint"``, ``"single"``, or ``"cond"`` (then the rest is empty).
        block: Index among the blocks of this kind.
        stream: ``"text"`` or ``"image"``.
        point: One of `POINTS`.
    """

    kind: str
    block: int = 0
    stream: str = ""
    point: str = ""

    def __str__(self) -> str:
        return self.kind if self.kind == "cond" else f"{self.kind}.{self.block}.{self.stream}.{self.point}"

    def __post_init__(self) -> None:
        if self.kind == "cond":
            return
        if self.kind not in KINDS or self.stream not in STREAMS or self.point not in POINTS:
            raise SiteError(f"{self.kind}.{self.block}.{self.stream}.{self.point} is not a site. {GRAMMAR}")

    @classmethod
    def parse(cls, text: str) -> Site:
        """Read one address.

        Raises:
            SiteError: If the text is not an address; the message shows the grammar.
        """
        if text == "cond":
            return cls("cond")
        fields = split(text)
        if not fields[1].isdecimal():
            raise SiteError(f"{text!r}: {fields[1]!r} is not a block number. {GRAMMAR}")
        return cls(fields[0], int(fields[1]), fields[2], fields[3])

    def sort_key(self) -> tuple[int, int, int, int]:
        """Order in which a forward pass reaches the sites."""
        if self.kind == "cond":
            return (-1, 0, 0, 0)
        order = ("in", *SOFTMAX_POINTS, "attn.out", "mlp.out", "out")
        streams: tuple[str, ...] = STREAMS
        return (KINDS.index(self.kind), self.block, order.index(self.point), streams.index(self.stream))


GRAMMAR = (
    "A site reads kind.block.stream.point, e.g. joint.3.image.out or single.0.text.in; kinds are joint and "
    f"single, streams text and image, points {', '.join(POINTS)}. `ditlens.sites(model)` lists a model's."
)


@functools.cache
def split(text: str) -> tuple[str, str, str, str]:
    """Cut an address or pattern into kind, block, stream, point.

    >>> split("joint.3.attn.image.out")  # understood as joint.3.image.attn.out
    ('joint', '3', 'image', 'attn.out')

    Raises:
        SiteError: If it has too few fields.
    """
    parts = text.split(".")
    if len(parts) >= 5 and parts[2] in ("attn", "mlp"):
        parts[2], parts[3] = parts[3], parts[2]
    if len(parts) < 4:
        raise SiteError(f"{text!r} has {len(parts)} fields instead of four. {GRAMMAR}")
    return parts[0], parts[1], parts[2], ".".join(parts[3:])


def braces(pattern: str) -> list[str]:
    """Write out every ``{a,b}`` of a pattern.

    >>> braces("joint.*.{text,image}.out")
    ['joint.*.text.out', 'joint.*.image.out']
    """
    found = re.search(r"\{([^{}]*)\}", pattern)
    if not found:
        return [pattern]
    head, tail = pattern[: found.start()], pattern[found.end() :]
    return [each for choice in found[1].split(",") for each in braces(head + choice.strip() + tail)]


def block_matches(field: str, block: int, count: int) -> bool:
    """Whether a block number fits ``*``, ``3``, ``-1`` or ``2:5``; `count` is the number of blocks."""
    if field == "*":
        return True
    if ":" in field:
        ends = [int(end) if end else None for end in field.split(":")]
        return block in range(count)[slice(*ends)]
    number = int(field)
    return block == (number if number >= 0 else count + number)


def select(patterns: str | Iterable[str], sites: Sequence[Site], absent: Mapping[str, str]) -> list[Site]:
    """Choose sites by patterns.

    >>> [str(site) for site in select("joint.-1.*.out", dl.sites(model), {})]
    ['joint.1.image.out']

    Args:
        patterns: One or more patterns.
        sites: Every site that exists.
        absent: Reason for each site that might be expected but does not exist.

    Returns:
        The sites in the order of the forward pass, each once.

    Raises:
        SiteError: If there is no pattern, or one is malformed or fits nothing; the message says why the site does
            not exist.
    """
    chosen: dict[Site, None] = {}
    counts = {kind: 1 + max((s.block for s in sites if s.kind == kind), default=-1) for kind in KINDS}
    several = isinstance(patterns, Iterable) and not isinstance(patterns, str)
    asked = list(patterns) if several else [patterns]
    if not all(isinstance(each, str | Site) for each in asked):
        raise SiteError(f"sites is {shown(patterns)}; give patterns as texts. {GRAMMAR}")
    for given in asked:
        for pattern in braces(str(given).strip()):
            found = [site for site in sites if _fits(pattern, site, counts)]
            if not found:
                raise SiteError(_nothing(pattern, sites, absent, counts))
            chosen |= dict.fromkeys(found)
    if not chosen:
        raise SiteError(
            "No sites were given. Choose some, e.g. 'joint.*.image.out'; `ditlens.sites(model)` lists them."
        )
    return sorted(chosen, key=Site.sort_key)


def fitting(
    names: Iterable[str],
    patterns: str | Iterable[str] | None = None,
    *,
    block: int | Sequence[int] | None = None,
    **fields: str | None,
) -> list[str]:
    """Those of some sites that fit patterns, blocks and fields (stream, kind, point); None fits all.

    >>> fitting(["joint.0.text.out", "joint.0.image.out", "joint.1.image.out"], stream="image", block=1)
    ['joint.1.image.out']
    """
    here = [Site.parse(name) for name in names]
    here = here if patterns is None else select(patterns, here, {})
    blocks = None if block is None else listed(block)
    return [
        str(site)
        for site in here
        if all(value in (None, getattr(site, name)) for name, value in fields.items())
        and (blocks is None or (site.block in blocks and site.kind != "cond"))
    ]


def asked(**fields: object) -> str:
    """What was asked for, in words, to be said where nothing fits.

    >>> asked(stream="image", block=9, point=None)
    "stream='image', block=9"
    """
    return ", ".join(f"{name}={value!r}" for name, value in fields.items() if value is not None)


def _fits(pattern: str, site: Site, counts: Mapping[str, int]) -> bool:
    if pattern == "cond" or site.kind == "cond":
        return pattern == str(site)
    kind, block, stream, point = split(pattern)
    try:
        in_block = block_matches(block, site.block, counts[site.kind])
    except (ValueError, TypeError):
        raise SiteError(f"{pattern!r}: {block!r} selects no blocks. {GRAMMAR}") from None
    return (
        kind in ("*", site.kind) and in_block and stream in ("*", site.stream) and point in ("*", site.point)
    )


def _nothing(
    pattern: str, sites: Sequence[Site], absent: Mapping[str, str], counts: Mapping[str, int]
) -> str:
    if pattern == "cond":
        return f"This model has no site 'cond': {absent.get('cond', 'it has no conditioning vector')}."
    kind, block, stream, point = split(pattern)
    for name, reason in absent.items():
        site = None if name == "cond" else Site.parse(name)
        if site is not None and _fits(pattern, site, counts):
            return f"The site {name} does not exist: {reason}"
    here = ", ".join(f"{n} {kind} blocks (0 to {n - 1})" for kind, n in counts.items() if n)
    for field, known in ((kind, KINDS), (stream, STREAMS), (point, tuple(POINTS))):
        if field != "*" and field not in known:
            return f"{pattern!r}: {field!r} is not one of {', '.join(known)}. {GRAMMAR}"
    points = sorted({site.point for site in sites if site.point})
    return f"{pattern!r} fits no site of this model: it has {here}, with the points {', '.join(points)}."
