"""What capture and intervene promise, for every joint-attention class of diffusers, at tiny random size."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

import ditlens as dl
from ditlens.adapters.table import ARCHITECTURES, NOT_JOINT
from ditlens.errors import ArchitectureError, SiteError
from ditlens.site import Site

sys.path.insert(0, str(Path(__file__).parent))
import tiny  # noqa: E402

IMAGE_INPUTS = ("hidden_states", "x", "latent_image_embeds", "vision_tokens")
TEXT_INPUTS = (
    "encoder_hidden_states", "encoder_hidden_states_t5", "encoder_hidden_states_llama3", "cap_feats", "text_bth",
    "input_ids", "prompt_embeds", "encoder_hidden_states_2",
)  # fmt: skip
GRIDS = {"SD3Transformer2DModel": (4, 6), "FluxTransformer2DModel": (4, 6), "Flux2Transformer2DModel": (4, 6),
         "QwenImageTransformer2DModel": (4, 6), "ZImageTransformer2DModel": (4, 6),
         "Lumina2Transformer2DModel": (4, 6), "CogVideoXTransformer3DModel": (2, 4, 6),
         "HunyuanVideoTransformer3DModel": (2, 4, 6), "MochiTransformer3DModel": (2, 4, 6)}  # fmt: skip

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # tiny models: threads only wait for each other
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=list(tiny.TINY))
def tried(request):
    """Name, model, inputs, output without hooks, output while capturing, and what was captured."""
    name = request.param
    model, inputs = tiny.build(name), tiny.inputs(name)
    with torch.no_grad():
        before = run(model, inputs)
        with dl.capture(model, "*.*.*.*") as cache:
            during = run(model, inputs)
    return name, model, inputs, before, during, cache


def run(model, inputs):
    """All output tensors of a call."""
    found = model(**inputs)
    return flat(found.to_tuple() if hasattr(found, "to_tuple") else found)


def flat(output):
    if isinstance(output, torch.Tensor):
        return [output]
    return [t for each in output for t in flat(each)] if isinstance(output, tuple | list) else []


def changed(inputs, names):
    """The inputs with those of some names replaced by others."""
    generator = torch.Generator().manual_seed(99)

    def other(value):
        if isinstance(value, list):
            return [other(each) for each in value]
        if value.is_floating_point():
            return torch.randn(value.shape, generator=generator)
        return (value + 1) % 40

    return {
        key: other(value) if key in names and value is not None else value for key, value in inputs.items()
    }


def test_every_transformer_class_of_diffusers_is_known():
    import diffusers.models.transformers as home

    names = {
        n
        for n in dir(home)
        if isinstance(getattr(home, n), type) and issubclass(getattr(home, n), torch.nn.Module)
    }
    named = {name for names in NOT_JOINT.values() for name in names.split()}
    assert names <= {*ARCHITECTURES, *named}
    assert set(tiny.TINY) == set(ARCHITECTURES)


def test_capturing_changes_nothing(tried):
    _, _, _, before, during, _ = tried
    assert len(before) == len(during) > 0
    assert all(torch.equal(a, b) for a, b in zip(before, during, strict=True))


def test_every_site_gives_finite_values_of_its_stream(tried):
    name, model, _, _, _, cache = tried
    assert cache.sites == [str(site) for site in dl.sites(model)]
    counts: dict = {}
    for key, tensor in cache.tensors.items():
        site = Site.parse(key.site)
        assert tensor.ndim == 3 and bool(tensor.isfinite().all()), key
        if site.kind != "cond":
            counts.setdefault((site.kind, site.block, site.stream), set()).add(tensor.shape[1])
    assert all(len(found) == 1 for found in counts.values()), counts  # one number of tokens at all points


def test_streams_are_what_their_names_say(tried):
    """The first block's image input follows the latents only, its text input the text only."""
    name, model, inputs, _, _, cache = tried
    kind = "joint" if any(s.startswith("joint") for s in cache.sites) else "single"
    places = {stream: f"{kind}.0.{stream}.in" for stream in ("text", "image")}
    seen = {}
    for what, names in (("image", IMAGE_INPUTS), ("text", TEXT_INPUTS)):
        with torch.no_grad(), dl.capture(model, list(places.values())) as other:
            run(model, changed(inputs, names))
        seen[what] = {s: torch.equal(other[p], cache[p]) for s, p in places.items()}
    assert seen == {"image": {"text": True, "image": False}, "text": {"text": False, "image": True}}


def test_what_leaves_a_block_enters_the_next(tried):
    name, _, _, _, _, cache = tried
    pairs = 0
    for place in cache.sites:
        site = Site.parse(place)
        after = f"{site.kind}.{site.block + 1}.{site.stream}.in"
        if site.point != "out" or after not in cache:
            continue
        pairs += 1
        same = torch.equal(cache[place], cache[after])
        if site.stream == "text" and name in ("BriaFiboTransformer2DModel", "HiDreamImageTransformer2DModel"):
            assert not same, "the table says that the text changes between blocks"
        elif not ARCHITECTURES[name].between:
            assert same, place
    assert pairs or name in ("HiDreamImageTransformer2DModel", "MotifVideoTransformer3DModel")


def test_attention_rows_sum_to_one(tried):
    _, _, _, _, _, cache = tried
    rows: dict = {}
    for place in cache.sites:
        head, found, toward = place.rpartition(".attn.to_")
        if found:
            assert bool((cache[place] >= -1e-6).all())
            rows.setdefault(head, []).append(cache[place].sum(-1))
    assert rows
    for head, parts in rows.items():
        total = torch.stack(parts).sum(0)
        whole = (total - 1).abs() < 1e-4
        assert bool((whole | (total.abs() < 1e-6)).all()), head  # 0: padding that may look nowhere
        assert bool(whole.any(-1).all())


def test_image_tokens_lie_where_they_should(tried):
    name, _, _, _, _, cache = tried
    if name in GRIDS:
        kind = cache.sites[1].split(".")[0]
        assert cache.to_grid(f"{kind}.0.image.out").shape[2:-1] == GRIDS[name]


@pytest.mark.parametrize("stream", ["image", "text"])
def test_an_intervention_changes_that_stream_and_only_that(tried, stream):
    name, model, inputs, before, _, cache = tried
    place = next((s for s in cache.sites if s.endswith(f".0.{stream}.out")), None)
    if place is None:
        with pytest.raises(SiteError, match="do not update it"):  # this class only reads the text
            dl.capture(model, f"joint.0.{stream}.out")
        return
    other = place.replace(stream, {"image": "text", "text": "image"}[stream])
    both = [place, *([other] if other in cache else [])]
    direction = torch.randn(cache[place].shape[-1], generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        with dl.intervene(model, {place: dl.scale(1.0)}):
            same = run(model, inputs)
        with dl.capture(model, both) as late, dl.intervene(model, {place: dl.add(direction, 2.0)}):
            moved = run(model, inputs)
        after = run(model, inputs)
    assert all(torch.equal(a, b) for a, b in zip(before, same, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    torch.testing.assert_close(late[place], cache[place] + 2 * direction, rtol=0, atol=1e-5)
    if other in cache:
        assert torch.equal(late[other], cache[other])
    dead = name == "HiDreamImageTransformer2DModel" and stream == "text"
    if not dead:
        assert any(not torch.equal(a, b) for a, b in zip(before, moved, strict=True))
    assert dl.hooks_on(model) == []


def test_an_intervention_at_the_input_reaches_the_block(tried):
    name, model, inputs, before, _, cache = tried
    for stream in ("image", "text"):
        place = next(s for s in cache.sites if s.endswith(f".0.{stream}.in"))
        with torch.no_grad(), dl.capture(model, place) as seen, dl.intervene(model, {place: dl.scale(0.5)}):
            moved = run(model, inputs)
        torch.testing.assert_close(seen[place], cache[place] * 0.5)
        assert any(not torch.equal(a, b) for a, b in zip(before, moved, strict=True)), place


def test_changes_inside_the_block_reach_the_output(tried):
    """Attention output, feed-forward and queries."""
    name, model, inputs, before, _, cache = tried
    for point in ("attn.out", "mlp.out", "q"):
        place = next((s for s in cache.sites if s.endswith(f".0.image.{point}")), None)
        if place is None or (point == "q" and ARCHITECTURES[name].blocks[0].calls != "once"):
            continue
        with torch.no_grad(), dl.capture(model, place) as seen, dl.intervene(model, {place: dl.scale(0.5)}):
            moved = run(model, inputs)
        if point != "q":
            torch.testing.assert_close(seen[place], cache[place] * 0.5)
        assert any(not torch.equal(a, b) for a, b in zip(before, moved, strict=True)), place


def test_gradient_checkpointing_gives_the_same_values(tried):
    name, model, inputs, _, _, cache = tried
    if not getattr(model, "_supports_gradient_checkpointing", False):
        with pytest.raises(ValueError, match="does not support gradient checkpointing"):
            model.enable_gradient_checkpointing()
        return
    places = [s for s in cache.sites if s.endswith((".in", ".out"))]
    model.enable_gradient_checkpointing()
    model.train()
    try:
        if (
            name == "HunyuanImageTransformer2DModel"
        ):  # diffusers 0.42 passes an argument that its function refuses
            with pytest.raises(TypeError, match="attention_mask"):
                run(model, inputs)
            return
        with dl.capture(model, places) as again:
            run(model, inputs)
    finally:
        model.disable_gradient_checkpointing()
        model.eval()
    for place in places:
        torch.testing.assert_close(again[place], cache[place], rtol=1e-4, atol=1e-4)


# --- special layouts ---------------------------------------------------------------------------------------


def test_texts_of_different_length_in_one_row_are_found():
    model, inputs = tiny.build("Lumina2Transformer2DModel"), tiny.inputs("Lumina2Transformer2DModel")
    inputs["encoder_attention_mask"][1, 3:] = False
    with torch.no_grad(), dl.capture(model, "single.0.{text,image}.in") as both:
        run(model, inputs)
    with torch.no_grad(), dl.capture(model, "single.0.{text,image}.in") as alone:
        run(model, {k: v[1:, :3] if "encoder" in k else v[1:] for k, v in inputs.items()})
    torch.testing.assert_close(both["single.0.image.in", 0][1:], alone["single.0.image.in", 0])
    torch.testing.assert_close(both["single.0.text.in", 0][1:, :3], alone["single.0.text.in", 0])


def test_a_change_leaves_the_padding_of_short_texts_alone():
    model, inputs = tiny.build("Lumina2Transformer2DModel"), tiny.inputs("Lumina2Transformer2DModel")
    inputs["encoder_attention_mask"][1, 3:] = False
    places = "single.0.{text,image}.out"
    with torch.no_grad(), dl.capture(model, places) as plain:
        run(model, inputs)
    with (
        torch.no_grad(),
        dl.intervene(model, {"single.0.text.out": lambda v: v + 1.0}),
        dl.capture(model, places) as moved,
    ):
        run(model, inputs)
    torch.testing.assert_close(moved["single.0.image.out"], plain["single.0.image.out"])
    torch.testing.assert_close(moved["single.0.text.out"], plain["single.0.text.out"] + 1)


def test_sd3_attention_is_the_softmax_of_its_own_queries_and_keys():
    model, inputs = tiny.build("SD3Transformer2DModel"), tiny.inputs("SD3Transformer2DModel")
    with torch.no_grad(), dl.capture(model, "joint.1.*.{q,k,attn.to_text}", heads="all") as cache:
        run(model, inputs)

    def heads(site):
        return cache[site][0].unflatten(-1, (2, 16)).transpose(1, 2)  # (batch, heads, tokens, channels)

    keys = torch.cat([heads("joint.1.image.k"), heads("joint.1.text.k")], 2)  # SD3 puts the image first
    expected = (heads("joint.1.image.q") @ keys.mT / 4).softmax(-1)[..., 24:]
    torch.testing.assert_close(cache["joint.1.image.attn.to_text"][0], expected)


def test_sites_that_do_not_exist_say_why():
    sd3 = tiny.build("SD3Transformer2DModel")
    with pytest.raises(SiteError, match="last block does not update the text"):
        dl.capture(sd3, "joint.1.text.out")
    with pytest.raises(SiteError, match=r"2 joint blocks \(0 to 1\)"):
        dl.capture(sd3, "joint.7.image.out")
    with pytest.raises(SiteError, match="'middle' is not one of"):
        dl.capture(sd3, "joint.0.middle.out")
    with pytest.raises(SiteError, match="read the text but do not update it"):
        dl.capture(tiny.build("PRXTransformer2DModel"), "joint.0.text.out")
    assert "joint.-1.image.out" not in dl.sites(sd3)
    assert [str(s) for s in dl.sites(sd3, "joint.-1.image.out")] == ["joint.1.image.out"]


def test_other_transformers_are_refused_with_a_reason():
    class PixArtTransformer2DModel(torch.nn.Module):
        pass

    class MyTransformer(torch.nn.Module):
        pass

    with pytest.raises(ArchitectureError, match="separate attentions"):
        dl.capture(PixArtTransformer2DModel())
    with pytest.raises(ArchitectureError, match="ARCHITECTURES\\['MyTransformer'\\]"):
        dl.capture(MyTransformer())


def test_a_class_that_extends_a_known_one_is_known():
    from diffusers import SD3Transformer2DModel

    class Mine(SD3Transformer2DModel):
        pass

    assert len(dl.sites(Mine(**tiny.TINY["SD3Transformer2DModel"]["init"]))) > 20


def test_an_estimate_is_what_the_capture_took(tried):
    _, model, inputs, _, _, cache = tried
    with torch.no_grad():
        said = dl.estimate(model, "*.*.*.*", run=lambda: run(model, inputs))
    assert said.total == pytest.approx(cache.nbytes / len(cache.items)) and said.sites == len(cache.sites)
