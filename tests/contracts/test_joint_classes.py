"""What capture and intervene promise, for every joint-attention class of diffusers, at tiny random size."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

import ditlens as dl
from ditlens.errors import ArchitectureError, CaptureError, InterventionError, SiteError
from ditlens.lens.adapters import table
from ditlens.lens.adapters.adapter import Adapter
from ditlens.lens.adapters.table import ARCHITECTURES, NOT_JOINT
from ditlens.lens.listing import describe_site
from ditlens.lens.selection import token_mean
from ditlens.lens.site import Site

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
        with dl.capture(model, both) as late, dl.intervene(model, {place: dl.add_vector(direction, 2.0)}):
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


# --- what a block does to a stream -------------------------------------------------------------------------

HISTORY = {"HunyuanVideoFramepackTransformer3DModel": 37}  # tokens of past frames, before those of the image
FEED_FORWARDS = ("ff", "block.ff_i", "down_proj")  # where the feed-forward is no site of its own


class Watched:
    """Outputs of parts of a block in one run, by name, each as often as it ran."""

    def __init__(self, block, *names):
        self.outputs = {name: [] for name in names}
        modules = {name: hasattr_module(block.module, name) for name in names}
        self.handles = [
            module.register_forward_hook(lambda m, a, out, name=name: self.outputs[name].append((a, out)))
            for name, module in modules.items()
            if module is not None
        ]

    def remove(self):
        for handle in self.handles:
            handle.remove()

    def stream(self, name, stream, counts, order, history):
        """What a part gave for one stream: of its own call, or its rows of a joint call."""
        found = [out for _, out in self.outputs[name]]
        if len(found) == 1 and found[0].shape[1] > counts[stream]:
            start = history if order.index(stream) == 0 else -counts[stream]
            return found[0][:, start:][:, : counts[stream]]
        return next(out for out in found if out.shape[1] == counts[stream])


def hasattr_module(module, path):
    try:
        return module.get_submodule(path)
    except AttributeError:
        return None


def unexplained(change, parts):
    """Share of a change that no mix of the parts explains, if gates have a number per picture and channel."""
    target = change.double().transpose(1, 2).unsqueeze(-1)  # (batch, channels, tokens, 1)
    parts = torch.stack([part.double().transpose(1, 2) for part in parts], -1)
    rest = target - parts @ torch.linalg.lstsq(parts, target).solution
    return float(rest.norm() / target.norm())


def normed(x):
    return x / x.square().mean(-1, keepdim=True).sqrt()


def leaves_unexplained(update, x, out, attn, mlp, also, block, merged):
    """How far a block's output is from what the printed formula says, as a share of the change."""
    extra = [] if also is None else [also]
    if update == table.GATED:
        return unexplained(out - x, [attn, mlp, *extra])
    if update == table.NORMED:
        return unexplained(out - x, [normed(attn), normed(mlp), *map(normed, extra)])
    if update == table.MERGED:
        return unexplained(out - x, [merged])
    if update == table.BESIDE:
        return unexplained(out - x, [attn + mlp])
    if update == table.WITHIN:
        return unexplained(out - x, [attn])
    if update == table.ONLY_MLP:
        return unexplained(out - x, [mlp])
    expected = x + attn + mlp if update == table.PLAIN else block.norm3(block.norm1(x + attn) + mlp)
    return float((out - expected).norm() / (out - x).norm())


def test_blocks_do_what_the_printed_formulas_say(tried):
    name, model, inputs, _, _, cache = tried
    adapter, history = Adapter(model), HISTORY.get(name, 0)
    for (kind, number), block in adapter.blocks.items():
        parts = {"image": {}, "text": {}}
        for place in cache.sites:
            site = Site.parse(place)
            if (site.kind, site.block) == (kind, number):
                parts[site.stream][site.point] = cache[place, 0]
        watched = Watched(block, "proj_out", *FEED_FORWARDS, *filter(None, [block.table.also]))
        with torch.no_grad():
            run(model, inputs)
        watched.remove()
        counts = {stream: found["in"].shape[1] for stream, found in parts.items() if "in" in found}
        for stream, found in parts.items():
            if "out" not in found:
                continue

            def part(key, stream=stream, watched=watched, counts=counts, block=block):
                return watched.stream(key, stream, counts, block.table.softmax, history)

            says = describe_site(adapter, Site(kind, number, stream, "out"))[-1]
            mlp = found.get("mlp.out")
            if mlp is None and "its feed-forward" in says or block.table.update == table.BESIDE:
                mlp = part(next(key for key in FEED_FORWARDS if watched.outputs[key]))
            also = part(block.table.also) if "adds" in says else None
            merged = part("proj_out") if block.table.update == table.MERGED else None
            rest = leaves_unexplained(
                block.table.update,
                found["in"],
                found["out"],
                found["attn.out"],
                mlp,
                also,
                block.module,
                merged,
            )
            assert rest < 1e-3, (kind, number, stream, says)  # norms add their epsilon; wrong ones give 0.1
            if merged is not None:  # the projection begins with the attention
                given = watched.outputs["proj_out"][0][0][0]
                first = block.table.softmax.index(stream) == 0
                given = given[:, history if first else -counts[stream] :][:, : counts[stream]]
                assert torch.equal(given[..., : found["attn.out"].shape[-1]], found["attn.out"])


def test_the_table_of_sites_has_a_formula_for_each_kind_of_block():
    flux, sd3 = (repr(dl.sites(tiny.build(f"{each}Transformer2DModel"))) for each in ("Flux", "SD3"))
    (fused,) = (line for line in flux.splitlines() if "single.0:2.image.out" in line)
    assert "out = x + g * projection(attn.out; feed-forward of x)" in fused and "g'" not in fused
    (shared,) = (line for line in flux.splitlines() if "single.0:2.image.attn.out" in line)
    assert "before the projection that it shares with the feed-forward" in shared
    (dual,) = (line for line in sd3.splitlines() if "joint.0.image.out" in line)
    assert "x' = x + g * attn.out + what attn2 adds, out = x' + g' * mlp.out" in dual
    (plain,) = (line for line in sd3.splitlines() if "joint.1.image.out" in line)
    assert "x' = x + g * attn.out, out = x' + g' * mlp.out" in plain


def test_the_table_of_sites_shows_which_blocks_have_a_site():
    from diffusers import SD3Transformer2DModel

    made = tiny.TINY["SD3Transformer2DModel"]["init"] | {"num_layers": 6, "dual_attention_layers": ()}
    model = SD3Transformer2DModel(**made)
    for blocks, shown in (([0, 4], "{0,4}"), ([0, 1, 2], "0:3"), ([0, 1, 2, 5], "{0:3,5}"), ([3], "3")):
        table_of = dl.sites(model, [f"joint.{block}.image.out" for block in blocks])
        assert f"joint.{shown}.image.out " in repr(table_of)
        again = dl.sites(model, f"joint.{shown}.image.out")  # what is printed can be typed
        assert [site.block for site in again] == blocks


def gates_of(module, run_it):
    """Everything that a modulating norm gave beside the values."""
    seen = []
    handle = module.register_forward_hook(lambda m, a, out: seen.append(out))
    run_it()
    handle.remove()
    return [each.unsqueeze(1) for each in seen[0][1:]]


def test_sd3_streams_are_the_sum_of_what_was_added_to_them():
    """Contract 5.2, with the gates that the block computed, bit by bit the block's own additions."""
    model, inputs = tiny.build("SD3Transformer2DModel"), tiny.inputs("SD3Transformer2DModel")
    second = []
    hook = model.transformer_blocks[0].attn2.register_forward_hook(lambda m, a, out: second.append(out))
    with torch.no_grad(), dl.capture(model, "joint.*.*.*") as cache:
        run(model, inputs)
    hook.remove()
    sums = {}
    for number, block in enumerate(model.transformer_blocks):
        norms = {"image": block.norm1} | ({"text": block.norm1_context} if number == 0 else {})
        for stream, norm in norms.items():
            with torch.no_grad():
                gates = gates_of(norm, lambda: run(model, inputs))
            x, attn, mlp, out = (
                cache[f"joint.{number}.{stream}.{p}", 0] for p in ("in", "attn.out", "mlp.out", "out")
            )
            total = x + gates[0] * attn
            if stream == "image" and number == 0:
                total = total + gates[5] * second[0]
            sums[number, stream] = (total + gates[3] * mlp, out)
    assert set(sums) == {(0, "text"), (0, "image"), (1, "image")}
    for expected, out in sums.values():
        torch.testing.assert_close(out, expected)


def test_flux_streams_are_the_sum_of_what_was_added_to_them():
    """Contract 5.2 for both kinds of blocks."""
    model, inputs = tiny.build("FluxTransformer2DModel"), tiny.inputs("FluxTransformer2DModel")
    with torch.no_grad(), dl.capture(model, "*.*.*.*") as cache:
        run(model, inputs)
    for number, block in enumerate(model.transformer_blocks):
        for stream, norm in (("image", block.norm1), ("text", block.norm1_context)):
            with torch.no_grad():
                gates = gates_of(norm, lambda: run(model, inputs))
            x, attn, mlp, out = (
                cache[f"joint.{number}.{stream}.{p}", 0] for p in ("in", "attn.out", "mlp.out", "out")
            )
            torch.testing.assert_close(out, x + gates[0] * attn + gates[3] * mlp)
    for number, block in enumerate(model.single_transformer_blocks):
        both = {p: torch.cat([cache[f"single.{number}.{s}.{p}", 0] for s in ("text", "image")], 1)
                for p in ("in", "attn.out", "out")}  # fmt: skip
        with torch.no_grad():
            (gate,) = gates_of(block.norm, lambda: run(model, inputs))
            hidden = block.act_mlp(block.proj_mlp(block.norm(both["in"], emb=cond_of(model, inputs))[0]))
            added = gate * block.proj_out(torch.cat([both["attn.out"], hidden], 2))
        torch.testing.assert_close(both["out"], both["in"] + added)


def cond_of(model, inputs):
    with torch.no_grad(), dl.capture(model, "cond") as cache:
        run(model, inputs)
    return cache["cond", 0].squeeze(1)


# --- padding -----------------------------------------------------------------------------------------------

MASKED = {  # argument that says what is real, argument that holds the text, real tokens of both items
    "ChromaTransformer2DModel": ("attention_mask", "encoder_hidden_states", [5, 3]),
    "CogView4Transformer2DModel": ("attention_mask", "encoder_hidden_states", [5, 3]),
    "GlmImageTransformer2DModel": ("attention_mask", "encoder_hidden_states", [5, 3]),
    "HunyuanImageTransformer2DModel": ("encoder_attention_mask", "encoder_hidden_states", [8, 6]),
    "HunyuanVideoTransformer3DModel": ("encoder_attention_mask", "encoder_hidden_states", [5, 3]),
    "HunyuanVideo15Transformer3DModel": ("encoder_attention_mask", "encoder_hidden_states", [8, 6]),
    "JoyImageEditPlusTransformer3DModel": ("encoder_hidden_states_mask", "encoder_hidden_states", [5, 3]),
    "Krea2Transformer2DModel": ("encoder_attention_mask", "encoder_hidden_states", [5, 3]),
    "MochiTransformer3DModel": ("encoder_attention_mask", "encoder_hidden_states", [5, 3]),
    "MotifVideoTransformer3DModel": ("encoder_attention_mask", "encoder_hidden_states", [5, 3]),
    "NucleusMoEImageTransformer2DModel": ("encoder_hidden_states_mask", "encoder_hidden_states", [5, 3]),
    "OmniGenTransformer2DModel": ("attention_mask", "input_ids", [5, 3]),
    "PRXTransformer2DModel": ("attention_mask", "encoder_hidden_states", [5, 3]),
    "PriorTransformer": ("attention_mask", "encoder_hidden_states", [5, 3]),
    "QwenImageTransformer2DModel": ("encoder_hidden_states_mask", "encoder_hidden_states", [5, 3]),
    "QwenImage21Transformer2DModel": ("encoder_hidden_states_mask", "encoder_hidden_states", [5, 3]),
}


def with_short_text(name, fill):
    """Inputs whose second item has three real text tokens; what stands at its padding is `fill`."""
    inputs = tiny.inputs(name)
    mask, text, real = MASKED[name]
    made = {"ChromaTransformer2DModel": (2, 29), "QwenImage21Transformer2DModel": (2, 11)}.get(name, (2, 5))
    inputs[mask] = inputs[mask].clone() if mask in inputs else torch.ones(made, dtype=torch.bool)
    inputs[text] = inputs[text].clone()
    inputs[mask][1, ..., 3:5] = 0
    inputs[text][1, 3:5] = fill
    return inputs, real


@pytest.mark.parametrize("name", MASKED)
def test_text_means_leave_out_what_the_call_says_is_padding(name):
    model = tiny.build(name)
    kind = "joint" if ("joint", 0) in Adapter(model).blocks else "single"
    place, means = f"{kind}.0.text.in", []
    for fill in (1, 7):
        inputs, real = with_short_text(name, fill)
        with torch.no_grad(), dl.capture(model, place) as cache:
            run(model, inputs)
        with torch.no_grad(), dl.capture(model, place, reduce="mean") as mean:
            run(model, inputs)
        assert cache.mask().sum(1).tolist() == real
        means.append(mean[place, 0])
    torch.testing.assert_close(means[0], means[1])
    assert not torch.allclose(means[0][1], cache[place, 0][1].mean(0))
    expected = torch.stack(
        [row[keep].mean(0) for row, keep in zip(cache[place, 0], cache.mask(), strict=True)]
    )
    torch.testing.assert_close(means[1], expected)


def test_framepack_drops_the_padding_of_one_item_alone():
    name = "HunyuanVideoFramepackTransformer3DModel"
    model, inputs = tiny.build(name), tiny.inputs(name)
    inputs["encoder_attention_mask"][0, 3:] = 0
    with torch.no_grad(), dl.capture(model, "joint.0.text.in") as cache:
        run(model, inputs)
    assert cache["joint.0.text.in", 0].shape[1] == 3 and cache.mask().tolist() == [[True] * 3]


@pytest.mark.parametrize(
    ("name", "stream"),
    [("Lumina2Transformer2DModel", "text"), ("ZImageTransformer2DModel", "text"),
     ("ZImageTransformer2DModel", "image"), ("ErnieImageTransformer2DModel", "text"),
     ("Ideogram4Transformer2DModel", "text")],
)  # fmt: skip
def test_means_leave_out_what_the_layout_repeats(name, stream):
    """The second item is shorter: its mean is that of its own tokens, not of the last one many times."""
    model, inputs = tiny.build(name), tiny.inputs(name)
    if name.startswith("Lumina2"):
        inputs["encoder_attention_mask"][1, 3:] = False
    elif name.startswith("ZImage"):
        key, short = ("cap_feats", lambda x: x[:3]) if stream == "text" else ("x", lambda x: x[..., :8])
        inputs[key] = [inputs[key][0], short(inputs[key][1])]
    elif name.startswith("Ernie"):
        inputs["text_lens"] = torch.tensor([5, 3])
    else:
        inputs["indicator"][1, :2] = 0
    place, count = f"single.0.{stream}.out", {"text": 3, "image": 16}[stream]
    with torch.no_grad(), dl.capture(model, place) as cache:
        run(model, inputs)
    with torch.no_grad(), dl.capture(model, [place, f"single.0.{stream}.k"], reduce="mean") as mean:
        run(model, inputs)
    short = cache[place, 0][1]
    assert torch.equal(short[count], short[-1]) and not torch.equal(short[count - 2], short[-1])
    torch.testing.assert_close(mean[place, 0][1], short[:count].mean(0))
    if stream == "text":
        assert cache.mask().sum(1).tolist() == [5, 3]


def test_means_inside_an_attention_that_sees_real_tokens_only():
    """Mochi asks its softmax for each picture apart, with its real tokens; shorter ones are filled up."""
    inputs, _ = with_short_text("MochiTransformer3DModel", 1)
    model, place = tiny.build("MochiTransformer3DModel"), "joint.0.text.k"
    with torch.no_grad(), dl.capture(model, place) as cache:
        run(model, inputs)
    with torch.no_grad(), dl.capture(model, place, reduce="mean") as mean:
        run(model, inputs)
    assert not cache[place, 0][1, 3:].any()
    torch.testing.assert_close(mean[place, 0][1], cache[place, 0][1, :3].mean(0))


def test_means_of_half_precision_do_not_overflow():
    values = torch.full((1, 512, 4), 300.0, dtype=torch.float16)
    mask = torch.arange(512)[None] < 400
    assert torch.equal(token_mean(values, mask), torch.full((1, 4), 300.0, dtype=torch.float16))
    values[:, 450] = torch.nan
    assert torch.equal(token_mean(values, mask), torch.full((1, 4), 300.0, dtype=torch.float16))
    assert torch.equal(
        token_mean(torch.ones(1, 2, 3), torch.zeros(1, 2, dtype=torch.bool)), torch.ones(1, 3)
    )  # nothing is real


# --- grids, defaults, inference mode -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["FluxTransformer2DModel", "Flux2Transformer2DModel"])
def test_reference_pictures_are_not_part_of_the_grid(name):
    """FLUX Kontext and FLUX.2 append a picture whose position ids differ on the first axis only."""
    model, inputs = tiny.build(name), tiny.inputs(name)
    other = torch.cartesian_prod(torch.ones(1), torch.arange(8.0), torch.arange(3.0))
    other = torch.nn.functional.pad(other, (0, inputs["img_ids"].shape[1] - 3))
    inputs["img_ids"] = torch.cat([inputs["img_ids"], other])
    inputs["hidden_states"] = torch.cat([inputs["hidden_states"], torch.randn(2, 24, 4)], 1)
    with torch.no_grad(), dl.capture(model, "joint.0.image.out") as cache:
        run(model, inputs)
    grid = cache.to_grid("joint.0.image.out", step=0)
    assert grid.shape == (2, 4, 6, 32)
    assert torch.equal(grid.flatten(1, 2), cache["joint.0.image.out", 0][:, :24])


def test_pictures_of_different_shapes_keep_their_grids():
    name = "SD3Transformer2DModel"
    model, inputs, place = tiny.build(name), tiny.inputs(name), "joint.0.image.out"
    tall = inputs | {"hidden_states": inputs["hidden_states"].mT.contiguous()}
    with torch.no_grad(), dl.capture(model, place) as cache:
        for each in (inputs, tall):
            run(model, each)
    assert cache[place, 0].shape == (4, 24, 32)
    with pytest.raises(CaptureError, match=r"run 0: 4 x 6, run 1: 6 x 4.*to_grid\(\.\.\., run=0\)"):
        cache.to_grid(place, step=0)
    wide, high = (cache.to_grid(place, step=0, run=n) for n in (0, 1))
    assert wide.shape == (2, 4, 6, 32) and high.shape == (2, 6, 4, 32)
    assert torch.equal(high.flatten(1, 2), cache[place, 0][2:])
    assert cache.to_grid(place, run=1).shape == (1, 2, 6, 4, 32)


def test_by_default_every_stream_that_there_is_is_captured(tried):
    _, model, inputs, _, _, cache = tried
    with torch.no_grad(), dl.capture(model) as found:
        run(model, inputs)
    assert found.sites == [s for s in cache.sites if s.endswith((".text.out", ".image.out"))]


def test_inference_mode(tried):
    """Both work in it; an in-place function spoils only its own copy; what is kept are ordinary tensors."""
    name, model, inputs, before, _, cache = tried
    place = next(s for s in cache.sites if s.endswith(".0.image.out"))

    def in_place(values):
        return values.mul_(2.0)

    with torch.inference_mode():
        with dl.intervene(model, {place: dl.scale(2.0)}), dl.capture(model, place) as seen:
            moved = run(model, inputs)
        with dl.intervene(model, {place: in_place}):
            same = run(model, inputs)
        plain = run(model, inputs)
    torch.testing.assert_close(seen[place], 2 * cache[place])
    assert not seen[place].is_inference()
    assert all(torch.equal(a, b) for a, b in zip(before, plain, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(moved, same, strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(before, moved, strict=True))


# --- interventions from other values -----------------------------------------------------------------------


def test_ablation_by_the_mean_leaves_padding_out():
    name, place = "QwenImageTransformer2DModel", "joint.0.text.out"
    model, (inputs, _) = tiny.build(name), with_short_text(name, 7)
    with torch.no_grad(), dl.capture(model, place) as base:
        run(model, inputs)

    def after(fn):
        with torch.no_grad(), dl.capture(model, place) as seen, dl.intervene(model, {place: fn}):
            run(model, inputs)
        return seen[place, 0]

    values = base[place, 0]
    own = torch.stack([values[0].mean(0), values[1, :3].mean(0)])[:, None].expand(2, 5, -1)
    torch.testing.assert_close(after(dl.ablate("mean")), own)
    over_items = torch.cat([values[:, :3].mean(0), values[0, 3:]]).expand(2, -1, -1)
    torch.testing.assert_close(after(dl.ablate("mean", base)), over_items)
    with torch.no_grad(), dl.capture(model, place, reduce="mean") as reduced:
        run(model, inputs)
    with pytest.raises(InterventionError, match=r"returned shape \(2, 32\) for values of shape \(2, 5, 32\)"):
        after(dl.ablate("mean", reduced))


def test_resampling_never_gives_an_item_itself():
    name, place = "SD3Transformer2DModel", "joint.0.image.out"
    model, inputs = tiny.build(name), tiny.inputs(name)
    three = {k: torch.cat([v, v[:1] * 1.5]) for k, v in inputs.items()} | {
        "timestep": torch.full((3,), 500.0)
    }
    with torch.no_grad(), dl.capture(model, place) as base:
        run(model, three)
    taken = []
    for seed in range(4):
        with (
            torch.no_grad(),
            dl.capture(model, place) as seen,
            dl.intervene(model, {place: dl.ablate("resample", base, seed=seed)}),
        ):
            run(model, three)
        values = seen[place, 0]
        taken.append([next(i for i in range(3) if torch.equal(row, base[place, 0][i])) for row in values])
    assert taken == [[1, 2, 0], [2, 0, 1], [1, 2, 0], [2, 0, 1]]
    with torch.no_grad(), dl.capture(model, place) as one:
        run(model, {k: v[:1] for k, v in inputs.items()})
    alone = dl.intervene(model, {place: dl.ablate("resample", one)})
    with pytest.raises(InterventionError, match="has only one. Capture two images"), torch.no_grad(), alone:
        run(model, inputs)
