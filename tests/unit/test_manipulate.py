"""The text half of manipulate: exact ends, numbers in between, clear refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ditlens.ems.extract import degree_of
from ditlens.ems.manipulate import manipulate
from ditlens.errors import SettingError
from ditlens.models.embedding import TextEmbedding
from ditlens.models.encoders import NOTHING, Encoder


def text(seed: int, batch: int = 1, tokens: int = 5, dtype: torch.dtype = torch.float32) -> TextEmbedding:
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(batch, tokens, 8, generator=generator).to(dtype)
    return TextEmbedding(matrix, torch.randn(batch, 6, generator=generator).to(dtype))


def constant(value: float, real: int | None = None) -> TextEmbedding:
    mask = None if real is None else torch.arange(5)[None] < real
    return TextEmbedding(torch.full((1, 5, 8), value), torch.full((1, 6), value), mask)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_ends_are_exact(dtype):
    source, target = text(0, dtype=dtype), text(1, dtype=dtype)
    zero, one = manipulate(source, target, 0), manipulate(source, target, 1.0)
    assert torch.equal(zero.tokens, source.tokens) and torch.equal(zero.pooled, source.pooled)
    assert torch.equal(one.tokens, target.tokens) and torch.equal(one.pooled, target.pooled)
    assert zero.equal(source).tolist() == [True] and one.equal(source).tolist() == [False]


@pytest.mark.parametrize(("degree", "value"), [(0.25, 3.0), (-1.0, -2.0), (2.5, 12.0)])
def test_line_between_and_beyond(degree, value):
    moved = manipulate(constant(2.0), constant(6.0), degree)
    assert torch.equal(moved.tokens, torch.full((1, 5, 8), value))
    assert torch.equal(moved.pooled, torch.full((1, 6), value))
    assert torch.equal(constant(2.0).lerp(constant(6.0), degree).tokens, moved.tokens)


def test_routes_move_separately():
    source, target = constant(2.0), constant(6.0)

    def values(*args, **kwargs):
        moved = manipulate(source, target, *args, **kwargs)
        return moved.tokens.mean().item(), moved.pooled.mean().item()

    assert values(0.5, tokens=False) == (2, 4)
    assert values(0.5, pooled=False) == (4, 2)
    assert values({"tokens": 0.5, "pooled": 2.0}) == (4, 10)
    assert values({"tokens": 0.5}) == (4, 2)


def test_degrees_may_come_from_arrays_and_tensors(wrong_types):
    found = [degree_of(each) for each in (*np.linspace(0, 1, 3), *torch.linspace(0, 1, 3), np.array(2), 1)]
    assert found == [0, 0.5, 1, 0, 0.5, 1, 2, 1] and {type(each) for each in found} == {float}


def test_degree_is_checked():
    source, target = text(0), text(1)
    with pytest.raises(SettingError, match=r"degree 3.5 of tokens is outside \[-2, 3\]"):
        manipulate(source, target, 3.5)
    with pytest.raises(SettingError, match="degree -2.5 of pooled is outside"):
        manipulate(source, target, {"tokens": 1, "pooled": -2.5})
    with pytest.raises(SettingError, match="degree is nan; give a number"):
        manipulate(source, target, float("nan"))
    with pytest.raises(SettingError, match=r"Unknown route \['token'\]"):
        manipulate(source, target, {"token": 1})
    assert manipulate(constant(0.0), constant(1.0), 5, high=6).pooled[0, 0].item() == 5


def test_texts_must_be_aligned():
    with pytest.raises(SettingError, match="5 and 7 token rows.*same position"):
        manipulate(text(0), text(1, tokens=7), 0.5)
    with pytest.raises(SettingError, match="5 and 7 token rows"):
        TextEmbedding.cat([text(0), text(1, tokens=7)])
    wide = TextEmbedding(torch.zeros(1, 5, 9), torch.zeros(1, 6))
    with pytest.raises(SettingError, match="different text encoders"):
        manipulate(text(0), wide, 0.5)


def test_masks_follow_the_words():
    source, target = constant(0.0, real=3), constant(1.0, real=4)
    real = [manipulate(source, target, degree).mask.sum().item() for degree in (0, 0.5, 1, 2)]
    assert real == [3, 4, 4, 4]
    assert manipulate(source, target, 0.5, tokens=False).mask.sum().item() == 3
    joined = TextEmbedding.cat([source, constant(2.0)])
    assert joined.mask.sum(1).tolist() == [3, 5]
    assert TextEmbedding.cat([constant(1.0), constant(2.0)]).mask is None
    assert source.equal(constant(0.0, real=4)).tolist() == [False]


def test_batches_join_repeat_and_move(wrong_types):
    both = TextEmbedding.cat([constant(0.0), constant(1.0, real=2)])
    assert len(both) == 2 and both.expand(2) is both
    assert both.equal(constant(0.0).expand(2)).tolist() == [True, False]
    repeated = constant(3.0, real=2).expand(4)
    assert repeated.tokens.shape == (4, 5, 8) and repeated.mask.shape == (4, 5)
    with pytest.raises(SettingError, match="Got 2 prompts for 3 latents"):
        both.expand(3)
    assert repr(repeated) == "TextEmbedding(tokens=(4, 5, 8), pooled=(4, 6), mask=(4, 5))"
    with pytest.raises(SettingError, match=r"Need tokens \(B, T, D\)"):
        TextEmbedding(torch.zeros(5, 8), torch.zeros(1, 6))


# --- single text encoders ------------------------------------------------------------------------------------

PORTRAITS = (
    Encoder("clip", slice(0, 77), slice(0, 128), slice(0, 128)),
    Encoder("clip_2", slice(0, 77), slice(128, 256), slice(128, 256)),
)
"""As in the portraits model."""

SD3 = (
    Encoder("clip", slice(0, 77), slice(0, 6), slice(0, 6)),
    Encoder("clip_2", slice(0, 77), slice(6, 16), slice(6, 16)),
    Encoder("t5", slice(77, None), slice(None), NOTHING),
)
"""As in SD3, but narrow: the CLIPs fill 16 of 32 channels, T5 all of them, and T5 gives nothing pooled."""


def pair(rows: int, width: int, pooled: int, real: tuple[int, int] = (3, 5)) -> list[TextEmbedding]:
    masks = [torch.arange(rows)[None] < count for count in real]
    return [
        TextEmbedding(torch.full((1, rows, width), value), torch.full((1, pooled), value), mask)
        for value, mask in zip((2.0, 6.0), masks, strict=True)
    ]


@pytest.mark.parametrize(("degree", "value"), [(1.0, 6.0), (0.5, 4.0), (-1.0, -2.0)])
def test_only_the_channels_of_an_encoder_move(degree, value):
    source, target = pair(77, 256, 256)
    moved = manipulate(source, target, degree, encoders=PORTRAITS[1:])
    assert torch.equal(moved.tokens[..., :128], source.tokens[..., :128])
    assert torch.equal(moved.pooled[..., :128], source.pooled[..., :128])
    assert (moved.tokens[..., 128:] == value).all() and (moved.pooled[..., 128:] == value).all()


def test_all_encoders_together_are_the_whole_text():
    source, target = text(0, tokens=77), text(1, tokens=77)
    halves = (
        Encoder("a", slice(0, 77), slice(0, 5), slice(0, 2)), Encoder("b", slice(0, 77), slice(5, 8), slice(2, 6))
    )  # fmt: skip
    for degree in (0.0, 0.3, 1.0):
        whole, parts = manipulate(source, target, degree), manipulate(source, target, degree, encoders=halves)
        assert torch.equal(whole.tokens, parts.tokens) and torch.equal(whole.pooled, parts.pooled)


def test_an_encoder_of_its_own_rows():
    source, target = pair(100, 32, 16, real=(80, 90))
    t5 = manipulate(source, target, 1.0, encoders=SD3[2:])
    assert torch.equal(t5.tokens[:, :77], source.tokens[:, :77]) and (t5.tokens[:, 77:] == 6).all()
    assert torch.equal(t5.pooled, source.pooled)
    clips = manipulate(source, target, 1.0, encoders=SD3[:2])
    assert torch.equal(clips.tokens[:, 77:], source.tokens[:, 77:]) and torch.equal(
        clips.pooled, target.pooled
    )
    assert (clips.tokens[:, :77, :16] == 6).all() and (clips.tokens[:, :77, 16:] == 2).all()


def test_encoders_and_routes_are_switched_independently():
    source, target = pair(77, 256, 256)
    moved = manipulate(source, target, 1.0, encoders=PORTRAITS[:1], pooled=False)
    assert (moved.tokens[..., :128] == 6).all() and torch.equal(moved.pooled, source.pooled)
    nothing = manipulate(source, target, 1.0, encoders=PORTRAITS[:1], tokens=False, pooled=False)
    assert nothing.equal(source).all()


def test_a_row_of_which_a_part_moves_has_the_words_of_both_texts():
    source, target = pair(100, 32, 16, real=(80, 78))
    moved = manipulate(source, target, 1.0, encoders=SD3[:1])
    assert moved.mask.sum() == 80
    shorter, longer = pair(100, 32, 16, real=(70, 80))
    assert manipulate(shorter, longer, 1.0, encoders=SD3[:1]).mask.sum() == 77, "T5's rows are the source's"
    assert manipulate(shorter, longer, 0.0, encoders=SD3[:1]).equal(shorter).all(), "degree 0 is the source"
