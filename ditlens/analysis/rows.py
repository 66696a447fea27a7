"""Hidden states as rows of a matrix: which tokens count, and where every row comes from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch

from ditlens.arguments import INDEX, instance, listed, one_of, several
from ditlens.errors import SettingError
from ditlens.lens.cache import LatentCache, Part
from ditlens.lens.selection import keeps_tokens, token_mean
from ditlens.lens.site import Site
from ditlens.lens.study.store import Study
from ditlens.tables import progress_bar, ranges

Source: TypeAlias = "LatentCache | Study | np.ndarray | torch.Tensor"
"""Whose hidden states: a cache, a study, a selection of one, or plain rows (rows, width)."""
Tokens: TypeAlias = "str | int | Sequence[int]"
"""Which rows: ``"each"`` token, the ``"mean"`` over the tokens of every image, or some token numbers."""
SOURCE = instance(
    "a cache, a study, a selection of one, or an array (rows, width)",
    LatentCache, Study, np.ndarray, torch.Tensor,
)  # fmt: skip
HIDDEN = instance("a cache, a study or a selection of one", LatentCache, Study)
TOKENS = one_of("each", "mean") | several(INDEX, "a list of token numbers")
PART = 128e6
"""Most bytes of hidden states that are read at once, if one image takes less."""
ROWS = 4096
"""Rows of a plain array that are taken at once."""


class Block(NamedTuple):
    """Rows of one site and step.

    Attributes:
        site: Printed `Site`; empty for rows of a plain array, as is the pass.
        step: Index of the timestep; -1 for rows of a plain array.
        pass_: Guidance pass.
        items: Which image each row is of, counted in the source; of a plain array, the row.
        tokens: Which token each row is, as the stream counts them; -1 where it is none, or a mean over them.
        values: The hidden states, (rows, width), float32.
        norms: Length of each row.
    """

    site: str
    step: int
    pass_: str
    items: np.ndarray
    tokens: np.ndarray
    values: np.ndarray
    norms: np.ndarray


def blocks(source: Source, tokens: Tokens = "each") -> Iterator[Block]:
    """All rows of a source, a part at a time; padding of the text is left out.

    Args:
        source: A cache, a study, a selection of one, or plain rows.
        tokens: Which rows.

    Raises:
        SettingError: If there are no rows of this kind, or a value is not finite; the message says where.

    >>> with dl.capture(model, "joint.0.{text,image}.out", steps=0) as cache:
    ...     image = model.generate("a big smile", seed=0)
    >>> [(block.site, block.values.shape) for block in blocks(cache)]
    [('joint.0.text.out', (5, 64)), ('joint.0.image.out', (64, 64))]
    """
    found: Iterator[Block] = _plain(source) if isinstance(source, np.ndarray | torch.Tensor) else (
        _block(source, part, tokens) for part in source.parts(_part_size(source))
    )  # fmt: skip
    total = len(source.items if isinstance(source, LatentCache | Study) else source)
    with progress_bar("read") as show:
        for block in found:
            _check_finite(block)
            yield block
            show(int(block.items[-1]) + 1 if len(block.items) else total, total)


def _check_finite(block: Block) -> None:
    """Refuse values that are none.

    Raises:
        SettingError: If one is not finite; the message says where.
    """
    if not np.isfinite(block.norms).all():
        bad = int(np.flatnonzero(~np.isfinite(block.norms))[0])
        token = f", token {block.tokens[bad]}" if block.tokens[bad] >= 0 else ""
        where = f"{block.site} at step {block.step}, image {block.items[bad]}{token}"
        raise _not_finite(where if block.site else f"Row {block.items[bad]}")


def check_finite(site: str, step: int, values: torch.Tensor, images: Sequence[int]) -> None:
    """Refuse hidden states, (images, ..., width), that are none.

    Raises:
        SettingError: If one is not finite; the message says in which image.
    """
    bad = (~values.isfinite()).flatten(1).any(1).nonzero()
    if len(bad):
        raise _not_finite(f"{site} at step {step}, image {images[int(bad[0])]}")


def _not_finite(where: str) -> SettingError:
    return SettingError(
        f"{where} holds NaN or infinity: no statistic of it means anything. Leave it out, or capture again in "
        "float32."
    )


def _part_size(source: LatentCache | Study) -> int:
    """How many images to read at once."""
    first = next(source.parts(1), None)
    if first is None:
        raise SettingError("The source is empty: it holds no hidden states. Give one that does.")
    return int(min(max(PART / (first.values.nbytes * len(source.steps)), 1), 64))


def _plain(source: np.ndarray | torch.Tensor) -> Iterator[Block]:
    """Rows of a plain array."""
    if source.ndim != 2 or not source.shape[0] or not source.shape[1]:
        raise SettingError(
            f"A plain array has the axes (rows, width); this one has the shape {tuple(source.shape)}. "
            "For hidden states (images, tokens, width): x.reshape(-1, x.shape[-1])."
        )
    kind = str(source.dtype).removeprefix("torch.")
    if not (kind.startswith(("float", "bfloat", "int", "uint")) or kind == "bool"):
        raise SettingError(f"This array holds {kind}, not numbers that can be projected. Give float32.")
    for start in range(0, len(source), ROWS):
        values = _float32(torch.as_tensor(source[start : start + ROWS]))
        items = np.arange(start, start + len(values))
        yield _made("", -1, "", items, np.full(len(values), -1), values)


def _block(source: LatentCache | Study, part: Part, tokens: Tokens) -> Block:
    """The chosen rows of a part."""
    if part.values.ndim not in (2, 3):
        raise SettingError(
            f"{part.site} has the axes of a softmax, {tuple(part.values.shape)}, heads among them. Choose hidden "
            "states, e.g. cache.select(point='out')."
        )
    images = np.asarray(part.rows)
    if part.values.ndim == 2 or tokens == "mean":
        if not isinstance(tokens, str):
            raise SettingError(
                f"tokens={listed(tokens)!r}, but {part.site} has none ({source.reduced or 'a single vector'}). "
                "Leave tokens out, or capture without reducing."
            )
        pooled = part.values if part.values.ndim == 2 else token_mean(part.values.float(), part.mask)
        return _made(part.site, part.step, part.pass_, images, np.full(len(images), -1), _float32(pooled))
    numbers = np.asarray(kept_tokens(source, part.site, part.values.shape[1]))
    real = np.ones(part.values.shape[:2], bool) if part.mask is None else part.mask.cpu().numpy().astype(bool)
    if not isinstance(tokens, str):
        absent = sorted(set(listed(tokens)) - set(numbers.tolist()))
        if absent:
            raise SettingError(
                f"Token {absent[0]} is not in {part.site}, which has the tokens {ranges(numbers.tolist())}."
            )
        real = real & np.isin(numbers, listed(tokens))
    row, place = np.nonzero(real)
    flat = _float32(part.values.flatten(0, 1) if real.all() else part.values[torch.from_numpy(real)])
    return _made(part.site, part.step, part.pass_, images[row], numbers[place], flat)


def _made(
    site: str, step: int, pass_: str, items: np.ndarray, tokens: np.ndarray, values: np.ndarray
) -> Block:
    norms = np.sqrt(np.einsum("ij,ij->i", values, values))
    return Block(site, step, pass_, items, tokens, values, norms)


def _float32(values: Any) -> np.ndarray:
    found: np.ndarray = values.detach().float().cpu().numpy()
    return found


def kept_tokens(source: LatentCache | Study, site: str, count: int) -> list[int]:
    """The numbers of the tokens of a site, as its stream counts them."""
    return source.tokens.get(Site.parse(site).stream) or list(range(count))


def described(source: Source) -> str:
    """A source in a few words."""
    if not isinstance(source, LatentCache | Study):
        return f"{len(source)} rows"
    sites = source.sites
    where = sites[0] if len(sites) == 1 else f"{len(sites)} sites from {sites[0]} to {sites[-1]}"
    steps = f"step{'s' * (len(source.steps) > 1)} {ranges(source.steps)}"
    images = f"{len(source.items)} image{'s' * (len(source.items) > 1)}"
    return f"{where}, {steps}, {images}"


def tokens_in_words(source: Source, tokens: Tokens) -> str:
    """Which rows were taken, in words."""
    if not isinstance(source, LatentCache | Study):
        return "every row of an array"
    streams = {Site.parse(site).stream for site in source.sites}
    kept = source.reduced if keeps_tokens(source.reduced) else ""
    text = ""
    if "text" in streams and (kept or not source.reduced):
        first = next(source.select(stream="text").parts(1))
        text = (
            " (padding of the text left out)"
            if first.mask is not None
            else " (padding of the text not known)"
        )
    if tokens == "mean" or (source.reduced and not kept):
        done = "mean" if kept or not source.reduced else source.reduced
        return f"{done} over the tokens of each image{text}, which hides what lies in single ones"
    what = {"image": "patch", "text": "text token"}.get(streams.pop() if len(streams) == 1 else "", "token")
    chosen = [] if isinstance(tokens, str) else listed(tokens)
    some = f"token{'s' * (len(chosen) > 1)} {ranges(chosen)} of each image" if chosen else ""
    which = some or f"every {what} a row"
    return f"{which}{text}{f', {kept}' if kept else ''}"
