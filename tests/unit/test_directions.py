"""Editing directions: planted ones are found, those of texts are differences of embeddings, and all can be kept."""

from __future__ import annotations

import pickle

import pytest
import torch
from safetensors.torch import save_file

import ditlens as dl
from ditlens.analysis import hidden_directions as hidden
from ditlens.errors import SettingError, SiteError, UnknownAttributeError
from ditlens.lens.cache import CachedItem, CacheKey, LatentCache

SITE, IMAGES, TOKENS, WIDTH = "joint.3.image.out", 240, 12, 16
PLACES = (3, 7)


def normal(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def planted(noise=0.8, site=SITE):
    """A cache whose hidden states hold an attribute along one vector at two tokens, the vector, and the attribute.

    Something else, which is not correlated with the attribute, moves them along a vector that is nearly the same.
    """
    vector = normal(len(PLACES), WIDTH, seed=1)
    vector = vector / vector.norm()
    other = vector + normal(len(PLACES), WIDTH, seed=2) / 6
    amount, nuisance = torch.linspace(-1, 1, IMAGES), normal(IMAGES, seed=3)
    amount = amount[torch.randperm(IMAGES, generator=torch.Generator().manual_seed(4))]
    nuisance = nuisance - nuisance @ amount / (amount @ amount) * amount
    values = 0.1 * normal(IMAGES, TOKENS, WIDTH, seed=5)
    values[:, PLACES] += 3 * amount[:, None, None] * vector + nuisance[:, None, None] * noise * other
    tensors = {CacheKey(site, step, "cond"): values + shift for step, shift in ((0, -0.5), (4, 0.5))}
    return LatentCache(tensors, [CachedItem(0, k, f"image {k}") for k in range(IMAGES)]), vector, amount


def cosine(a, b):
    return float(torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0))


@pytest.mark.parametrize("method", ["difference", "probe", "pca"])
def test_a_planted_direction_is_found_where_it_is(method):
    cache, vector, amount = planted(0.0 if method == "pca" else 0.8)
    found = dl.direction(cache, "smile", values=amount.tolist(), method=method)
    assert found.places == PLACES and found.site == SITE and found.targets == ("smile",)
    assert cosine(found.vector, vector) > 0.99
    assert float(found.vector.norm()) == pytest.approx(1, abs=1e-6)
    values = cache.tensors[CacheKey(SITE, 0, "cond")][:, PLACES]
    assert found.unit == pytest.approx(float((values * found.vector).sum((1, 2)).std()), rel=1e-4)
    torch.testing.assert_close(found.step, found.unit * found.vector)


def test_weights_are_not_their_pattern():
    """What predicts the attribute best turns away from the noise; the pattern does not (Haufe et al. 2014)."""
    cache, vector, amount = planted()
    made = {m: dl.direction(cache, "smile", values=amount, method=m).vector for m in ("weights", "probe")}
    assert cosine(made["weights"], vector) < 0.9 < 0.99 < cosine(made["probe"], vector)


def test_up_is_more_of_it_whatever_the_sign():
    cache, vector, amount = planted()
    for method in hidden.METHODS:
        down = dl.direction(cache, "frown", values=(-amount).tolist(), method=method, patches=list(PLACES))
        assert cosine(down.vector, vector) < -0.5


def test_patches_by_number_by_name_shared_and_all():
    cache, vector, amount = planted()
    values = amount.tolist()
    assert dl.direction(cache, "smile", values=values, patches=2).places == PLACES
    assert dl.direction(cache, "smile", values=values, patches=[7]).places == (7,)
    whole = dl.direction(cache, "smile", values=values, patches=None)
    assert whole.vector.shape == (TOKENS, WIDTH) and whole.places == tuple(range(TOKENS))
    shared = dl.direction(cache, "smile", values=values, patches=[3, 7], per_patch=False)
    assert shared.vector.shape == (1, WIDTH) and shared.places == PLACES
    assert cosine(shared.vector[0], vector.mean(0)) > 0.99
    with pytest.warns(UserWarning, match="No patch stands out in 240 images: all 12 are used"):
        noise = dl.direction(cache, "nothing", values=normal(IMAGES, seed=9).tolist())
    assert len(noise.places) == TOKENS, "where nothing stands out it acts everywhere"
    assert "at 12 patches: 0, 1, 2" in repr(noise)


def test_a_value_of_a_category():
    cache, vector, amount = planted()
    words = ["hat" if a > 0 else "none" for a in amount]
    found = dl.direction(cache, "hat", values=words, value="hat", steps=4)
    assert cosine(found.vector, vector) > 0.99 and found.value == "hat" and found.name == "hat: hat"
    assert "steps 4" in found.how
    with pytest.raises(SettingError, match="'hat' is hat or none in these images: say which, value="):
        dl.direction(cache, "hat", values=words)


def test_images_in_which_nobody_can_see_it_are_left_out():
    cache, vector, amount = planted()
    for key, values in cache.tensors.items():
        cache.tensors[key] = torch.cat([values, 50 * normal(20, TOKENS, WIDTH, seed=8)])
    cache.items.extend([CachedItem(0, k) for k in range(IMAGES, IMAGES + 20)])
    for values, value in ((amount.tolist(), ""), (["hat" if a > 0 else "none" for a in amount], "hat")):
        found = dl.direction(cache, "smile", values=[*values, *[None] * 20], value=value)
        assert cosine(found.vector, vector) > 0.99 and "240 images" in found.how


def test_what_cannot_be_made_at_a_site_is_refused():
    cache, _, amount = planted()
    text = planted(site="joint.3.text.out")[0]
    values = amount.tolist()
    both = LatentCache({**cache.tensors, **text.tensors}, cache.items)
    reduced = LatentCache(cache.tensors, cache.items, reduced="sketch:64")
    cases = [
        (cache, ("smile",), {}, "It has no column 'smile'; it has prompt"),
        (cache, ("smile",), {"values": [1.0]}, "values has 1 numbers for 240 images"),
        (cache, ("smile",), {"values": [1.0] * IMAGES}, "is the same in all 240 images"),
        (cache, ("smile",), {"values": values, "patches": [12]}, "Patch 12 is not there: give some of 0 to 11"),
        (cache, ("smile",), {"values": values, "patches": 13}, "patches is 13, but there are 12"),
        (cache, ("a", "b"), {}, "for one attribute"),
        (cache, ("smile",), {"method": "matrix"}, "Directions of texts are made from a model"),
        (cache, ("smile",), {"values": values, "site": "joint.2.image.out"}, "joint.2.image.out is not in it"),
        (both, ("smile",), {"values": values}, "Say at which site"),
        (text, ("smile",), {"values": values}, "its tokens are other words in every prompt"),
        (reduced, ("smile",), {"values": values}, "not in the width of the model.*reduce=None"),
    ]  # fmt: skip
    for source, what, how, message in cases:
        with pytest.raises(SettingError, match=message):
            dl.direction(source, *what, **how)
    with pytest.raises(SiteError):
        dl.direction(cache, "smile", values=values, steps=[3])


# --- texts ---------------------------------------------------------------------------------------------------


def test_directions_of_texts_are_differences(portraits):
    a, b = "a frown, a portrait of a person", "a smile, a portrait of a person"
    before, after = portraits.encode_text([a, b]).split()
    whole = dl.direction(portraits, a, b)
    torch.testing.assert_close(whole.vector, (after.tokens - before.tokens)[0])
    torch.testing.assert_close(whole.pooled, (after.pooled - before.pooled)[0])
    assert whole.unit == 1 and whole.targets == ("smile",) and whole.site == ""
    (row,) = dl.words(portraits, a, "frown")["tokenizer"]
    word = dl.direction(portraits, a, b, method="word")
    torch.testing.assert_close(word.vector[0], whole.vector[row])
    assert (
        word.pooled is None and word.words[:2] == ("frown", "smile") and "a neutral expression" in word.words
    )
    noun = dl.direction(portraits, pairs=[(a, b), (a, b)], method="noun", word="person")
    (row,) = dl.words(portraits, a, "person")["tokenizer"]
    torch.testing.assert_close(noun.vector[0], whole.vector[row])
    assert noun.words == ("person",) and noun.last and "mean over 2 pairs" in noun.how


def test_a_world_writes_aligned_pairs(portraits):
    found = dl.direction(portraits, "beard", count=3)
    assert found.targets == ("beard",) and found.how == "difference of the two texts, mean over 3 pairs"
    again = dl.direction(portraits, "beard", count=3)
    assert torch.equal(found.vector, again.vector)
    crown = dl.direction(portraits, "hat", value="crown", count=2)
    assert crown.value == "crown" and crown.name == "hat: crown"
    assert dl.direction(portraits, "hat", count=1).value == "cap", "the first one beside the neutral one"
    assert dl.direction(portraits, "a person, no hat", "a person, a crown").value == "crown"


def test_what_cannot_be_made_of_texts_is_refused(portraits):
    cases = [
        (("a", "b", "c"), {}, "Give an attribute, two texts, or pairs"),
        (("a hat", "a hat"), {}, "have the same embedding"),
        (("a hat", "a crown"), {"method": "noun"}, "needs the noun"),
        (("a hat", "a red hat"), {"method": "word"}, "one has no words that the other lacks"),
        (("smile",), {"site": SITE}, "made from a study or a cache"),
        (("smile",), {"value": "big"}, "is continuous"),
        (("hat",), {"value": "none"}, "is the neutral value"),
    ]
    for what, how, message in cases:
        with pytest.raises(SettingError, match=message):
            dl.direction(portraits, *what, **how)
    with pytest.raises(UnknownAttributeError, match="no attribute 'nose'"):
        dl.direction(portraits, "nose")


# --- what directions can do ----------------------------------------------------------------------------------


def direction(vector, places=(0, 1), site=SITE, **more):
    return dl.Direction("smile", "by hand", torch.tensor(vector), 2.0, site, places, **more)


def test_they_are_saved_and_pickled_whole(portraits, tmp_path):
    made = [
        dl.direction(portraits, "a frown", "a smile", method="word"),
        dl.direction(portraits, "a frown", "a smile"),
        direction([[0.6, 0.0], [0.0, 0.8]], targets=("smile",), value="x"),
    ]
    for k, known in enumerate(made):
        kept = [
            dl.Direction.load(known.save(tmp_path / f"{k}.safetensors")),
            pickle.loads(pickle.dumps(known)),
        ]
        for found in kept:
            for name, value in vars(known).items():
                mine = getattr(found, name)
                assert torch.equal(mine, value) if isinstance(value, torch.Tensor) else mine == value, name
    with pytest.raises(SettingError, match="is there already. Choose .* overwrite it: overwrite=True"):
        made[2].save(tmp_path / "0.safetensors")
    assert dl.Direction.load(made[2].save(tmp_path / "0.safetensors", overwrite=True)).value == "x"
    with pytest.raises(SettingError, match="the name must end in .safetensors, e.g. 'smile.safetensors'"):
        made[2].save(tmp_path / "smile")
    (tmp_path / "bad.safetensors").write_bytes(b"no direction")
    with pytest.raises(SettingError, match="holds no direction that can be read"):
        dl.Direction.load(tmp_path / "bad.safetensors")
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(
        SettingError, match="holds no direction that can be read .it has no 'ditlens.direction'."
    ):
        dl.Direction.load(tmp_path / "other.safetensors")


def test_what_is_no_text_is_refused(portraits):
    with pytest.raises(
        SettingError, match="name or two texts go here, nothing of type int: direction.model, 'smile'."
    ):
        dl.direction(portraits, 3)


def test_cosines_count_tokens_where_one_does_not_act_as_zero():
    one, other = direction([[1.0, 0.0], [0.0, 1.0]]), direction([[0.0, 1.0], [1.0, 0.0]], (1, 2))
    assert one.cosine(one) == pytest.approx(1) and one.cosine(other) == pytest.approx(0.5)
    shared = direction([[0.0, 1.0]], ())
    assert shared.cosine(direction([[0.0, 3.0], [0.0, 3.0]])) == pytest.approx(1)
    with pytest.raises(SettingError, match="no angle between them"):
        one.cosine(direction([[1.0, 0.0]], site="joint.2.image.out"))


def test_some_of_the_patches_and_a_random_control():
    one = direction([[0.6, 0.0], [0.0, 0.8]], (5, 9))
    part = one.at([9])
    assert part.places == (9,) and part.vector.tolist() == [[0.0, pytest.approx(0.8)]] and part.unit == 2
    with pytest.raises(SettingError, match="does not act at patch 4, only at 5, 9"):
        one.at([4])
    control = one.random(3)
    torch.testing.assert_close(control.vector.norm(dim=1), one.vector.norm(dim=1))
    assert control.places == one.places and control.unit == 2 and abs(control.cosine(one)) < 0.999
    assert torch.equal(control.vector, one.random(3).vector)


def test_it_prints_what_it_is():
    assert repr(direction([[0.6, 0.0], [0.0, 0.8]], (5, 9))) == (
        "Direction: smile\n  joint.3.image.out, 2 tokens x 2, at 2 patches: 5, 9\n  made as: by hand\n"
        "  unit 2 (1 standard deviation of the values along it), length 2"
    )
