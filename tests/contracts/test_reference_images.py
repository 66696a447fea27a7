"""Classes that take reference images: these belong to no stream, and the grid is that of the image that is made."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

import ditlens as dl
from ditlens.errors import CaptureError
from ditlens.lens.adapters import layouts
from ditlens.lens.adapters.adapter import Adapter

sys.path.insert(0, str(Path(__file__).parent))
import tiny  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")


@dataclass
class Case:
    """A call with reference images.

    Attributes:
        name: The class.
        inputs: Arguments of its forward.
        at: Argument and index of what makes the image token in row 2, column 3 of the (last) frame.
        reference: Argument and index of something of a reference image; None if it is text that images precede.
        grid: Grid of the image.
        mixed: Whether image and reference images attend to each other before the first block.
        model: The model, if it is not the usual one.
    """

    name: str
    inputs: dict[str, Any]
    at: tuple[str, Any]
    reference: tuple[str, Any]
    grid: tuple[int, ...] = (4, 6)
    mixed: bool = False
    model: torch.nn.Module | None = None


ALL = slice(None)
TOKEN = 2 * 6 + 3
PIXEL = (..., 4, 6)


def noise(*shape, seed=7):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def positions(height, width, axes, first=0.0):
    ids = torch.cartesian_prod(torch.tensor([first]), torch.arange(float(height)), torch.arange(float(width)))
    return torch.nn.functional.pad(ids, (0, axes - 3))


def with_ids(name, first=1.0, before=False, **more):
    """A reference image of 3 x 5 tokens that other numbers on axis 0 of the position ids tell apart."""
    inputs = tiny.inputs(name)
    ids, image = inputs["img_ids"], inputs["hidden_states"]
    parts = [(ids, image), (positions(3, 5, ids.shape[1], first), noise(2, 15, image.shape[2]))]
    parts = parts[::-1] if before else parts
    inputs["img_ids"], inputs["hidden_states"] = (
        torch.cat(each, axis) for axis, each in enumerate(zip(*parts, strict=True))
    )
    start, other = (15, 4) if before else (0, 26)
    return Case(name, inputs | more, ("hidden_states", (ALL, start + TOKEN)), ("hidden_states", (ALL, other)))


def flux():
    return with_ids("FluxTransformer2DModel")


def flux2():
    return with_ids("Flux2Transformer2DModel", 10.0)


def flux2_extracting():
    from diffusers.models.transformers import transformer_flux2 as home

    case = with_ids(
        "Flux2Transformer2DModel",
        10.0,
        before=True,
        kv_cache_mode="extract",
        num_ref_tokens=15,
        return_dict=False,
    )
    case.model = tiny.build(case.name)
    for block in case.model.transformer_blocks:
        block.attn.set_processor(home.Flux2KVAttnProcessor())
    for block in case.model.single_transformer_blocks:
        block.attn.set_processor(home.Flux2KVParallelSelfAttnProcessor())
    return case


def flux2_cached():
    case = flux2_extracting()
    with torch.no_grad():
        cache = case.model(**case.inputs)[1]
    inputs = tiny.inputs(case.name) | {"kv_cache": cache, "kv_cache_mode": "cached"}
    return Case(case.name, inputs, ("hidden_states", (ALL, TOKEN)), ("kv_cache", None), model=case.model)


def flux3():
    name = "Flux3Transformer2DModel"
    inputs = tiny.inputs(name)
    inputs["img_ids"] = inputs["img_ids"] * torch.tensor([1, 0.5, 0.5, 1])  # its pipeline scales them
    inputs |= {
        "image_cond_hidden_states": noise(2, 15, 4),
        "image_cond_ids": positions(3, 5, 4) + torch.tensor([0, 0, 0, -1.0]),
    }  # fmt: skip
    return Case(
        name, inputs, ("hidden_states", (ALL, TOKEN)), ("image_cond_hidden_states", (ALL, 0)), mixed=True
    )


def bria_fibo():
    return with_ids("BriaFiboTransformer2DModel")


def bria_fibo2():
    inputs = tiny.inputs("BriaFibo2Transformer2DModel") | {"context_latents": [noise(2, 4, 6, 10)]}
    return Case(
        "BriaFibo2Transformer2DModel", inputs, ("hidden_states", PIXEL), ("context_latents", 0), mixed=True
    )


def longcat():
    case = with_ids("LongCatImageTransformer2DModel")
    case.inputs["img_ids"][:, 0] += 1  # 1 for the image, 2 for the reference
    return case


def glm(mode="read"):
    from diffusers.models.transformers.transformer_glm_image import GlmImageKVCache

    name = "GlmImageTransformer2DModel"
    model, inputs = tiny.build(name), tiny.inputs(name)
    caches = GlmImageKVCache(num_layers=2)
    caches.set_mode("write")
    reference = {
        "hidden_states": noise(1, 4, 6, 10), "encoder_hidden_states": torch.zeros(1, 0, 12),
        "prior_token_id": torch.ones(1, 15, dtype=torch.long),
        "prior_token_drop": torch.zeros(1, 15, dtype=torch.bool), "timestep": torch.zeros(1),
        "target_size": torch.tensor([[6.0, 10.0]]), "crop_coords": torch.zeros(1, 2), "kv_caches": caches,
    }  # fmt: skip
    if mode == "write":
        return model, reference
    with torch.no_grad():
        model(**reference)
    caches.set_mode(mode)
    return Case(
        name, inputs | {"kv_caches": caches}, ("hidden_states", PIXEL), ("kv_caches", None), model=model
    )


def qwen(**config):
    name = "QwenImageTransformer2DModel"
    inputs = tiny.inputs(name)
    inputs["hidden_states"] = torch.cat([inputs["hidden_states"], noise(2, 15, 16)], 1)
    inputs["img_shapes"] = [[(1, 4, 6), (1, 3, 5)]] * 2
    model = tiny.build(name, **config)
    return Case(name, inputs, ("hidden_states", (ALL, TOKEN)), ("hidden_states", (ALL, 26)), model=model)


def qwen_2511():
    return qwen(zero_cond_t=True)


def qwen_layered():
    """Layers of one image; the last shape is that of the reference."""
    case = qwen(use_layer3d_rope=True)
    case.inputs["hidden_states"] = torch.cat([noise(2, 24, 16, seed=3), case.inputs["hidden_states"]], 1)
    case.inputs["img_shapes"] = [[(1, 4, 6), (1, 4, 6), (1, 3, 5)]] * 2
    case.at, case.grid = ("hidden_states", (ALL, 24 + TOKEN)), (2, 4, 6)
    case.reference = ("hidden_states", (ALL, 50))
    return case


def qwen21(**more):
    """[2 text, reference, 3 text, image]: a slot stands for four tokens."""
    name = "QwenImage21Transformer2DModel"
    inputs = tiny.inputs(name)
    text = inputs["encoder_hidden_states"]
    inputs["encoder_hidden_states"] = torch.cat([text[:, :2], torch.zeros(2, 2, 12), text[:, 2:]], 1)
    inputs["img_mask"] = torch.tensor([[False] * 2 + [True] * 2 + [False] * 3 + [True] * 6] * 2)
    inputs["hidden_states"] = torch.cat([noise(2, 8, 4), inputs["hidden_states"]], 1)
    inputs["img_shapes"] = [[(1, 2, 4), (1, 4, 6)]]
    at = ("hidden_states", (ALL, 8 + TOKEN))
    return Case(name, inputs | more, at, ("hidden_states", (ALL, 0)), model=tiny.build(name))


def qwen21_extracting():
    from diffusers.models.transformers.transformer_qwenimage21 import QwenImage21KVCache

    return qwen21(kv_cache=QwenImage21KVCache(2), kv_cache_mode="extract")


def qwen21_cached():
    case = qwen21_extracting()
    with torch.no_grad():
        case.model(**case.inputs)
    case.inputs |= {"kv_cache_mode": "cached", "timestep": torch.tensor([0.25])}
    case.reference = ("kv_cache", None)
    return case


def joy():
    """Of several images the last one is made; the model moves it to the front."""
    name = "JoyImageEditTransformer3DModel"
    inputs = tiny.inputs(name) | {"hidden_states": noise(2, 3, 4, 1, 8, 12)}
    return Case(name, inputs, ("hidden_states", (ALL, 2, ALL, ALL, 4, 6)), ("hidden_states", (ALL, 0)))


def joy_plus():
    name = "JoyImageEditPlusTransformer3DModel"
    inputs = tiny.inputs(name)
    inputs["hidden_states"] = torch.cat([inputs["hidden_states"], noise(2, 15, 4, 1, 2, 2)], 1)
    inputs["shape_list"] = [[(1, 4, 6), (1, 3, 5)]] * 2
    return Case(name, inputs, ("hidden_states", (ALL, TOKEN)), ("hidden_states", (ALL, 26)))


def omnigen():
    """An image of 15 tokens in the text of the first item."""
    name = "OmniGenTransformer2DModel"
    inputs = tiny.inputs(name) | {"input_ids": torch.arange(40).view(2, 20)}
    inputs |= {
        "input_img_latents": [noise(1, 4, 6, 10)], "input_image_sizes": {0: [[2, 17]], 1: []},
        "attention_mask": torch.ones(2, 45, 45), "position_ids": torch.arange(45).expand(2, 45),
    }  # fmt: skip
    return Case(name, inputs, ("hidden_states", PIXEL), ("input_img_latents", 0))


def framepack():
    """Frames of the past come before those that are made, an image encoder's tokens before the text."""
    name = "HunyuanVideoFramepackTransformer3DModel"
    inputs = tiny.inputs(name)
    return Case(name, inputs, ("hidden_states", (..., 1, 4, 6)), ("latents_clean", 0), (2, 4, 4))


def minimax():
    """[5 text, 6 of a reference, 4 audio, 24 of the video]."""
    name = "MiniMaxH3Transformer3DModel"
    inputs = tiny.inputs(name) | {"hidden_states": noise(1, 30, 16)}
    video = torch.cat([torch.arange(5, 11), torch.arange(15, 39)])
    ids = torch.zeros(39, 3)
    ids[5:11, 0], ids[15:] = 3, positions(4, 6, 3, 7.5) * torch.tensor([1, 32 / 7, 32 / 7])
    inputs |= {
        "video_indices": video, "audio_indices": torch.arange(11, 15), "position_ids": ids,
        "token_tags": torch.tensor([1] * 5 + [0] * 6 + [2] * 4 + [0] * 24), "timestep": torch.tensor([0.5, 0.9]),
        "timestep_indices": torch.tensor([0] * 5 + [1] * 6 + [0] * 28),
    }  # fmt: skip
    return Case(name, inputs, ("hidden_states", (ALL, 6 + TOKEN)), ("hidden_states", (ALL, 0)))


def cosmos():
    """Sound lies behind the video among the tokens that are made."""
    name = "Cosmos3OmniTransformer"
    inputs = tiny.inputs(name) | {
        "sequence_length": 33, "position_ids": torch.arange(33).expand(3, 33), "sound_tokens": [noise(6, 4)],
        "sound_token_shapes": [(4, 1, 1)], "sound_sequence_indexes": torch.arange(29, 33),
        "sound_mse_loss_indexes": torch.arange(29, 33), "sound_timesteps": torch.full((4,), 500.0),
        "sound_noisy_frame_indexes": [torch.arange(4)],
    }  # fmt: skip
    model = tiny.build(name, sound_gen=True, sound_dim=6)
    return Case(name, inputs, ("vision_tokens", (0, 0, ALL, 0, 4, 6)), ("sound_tokens", 0), model=model)


def motif():
    name = "MotifVideoTransformer3DModel"
    inputs = tiny.inputs(name) | {"image_embeds": noise(2, 3, 10)}
    model = tiny.build(name, image_embed_dim=10)
    return Case(
        name, inputs, ("hidden_states", (..., 1, 4, 6)), ("image_embeds", (ALL, 0)), (2, 4, 6), model=model
    )


def hunyuan_video15():
    name = "HunyuanVideo15Transformer3DModel"
    return Case(name, tiny.inputs(name), ("hidden_states", (..., 2, 3)), ("image_embeds", (ALL, 0)))


CASES = [
    flux, flux2, flux2_extracting, flux2_cached, flux3, bria_fibo, bria_fibo2, longcat, glm, qwen, qwen_2511,
    qwen_layered, qwen21, qwen21_extracting, qwen21_cached, joy, joy_plus, omnigen, framepack, minimax, cosmos,
    motif, hunyuan_video15,
]  # fmt: skip


def moved(inputs, key, index):
    """The inputs with one part changed."""
    value = inputs[key]
    inside = isinstance(value, list)
    at, index = (index[0], index[1:]) if inside and isinstance(index, tuple) else (index, ...)
    tensor = (value[at] if inside else value).clone()
    tensor[index if inside else at] += 1.0
    return inputs | {key: [*value[:at], tensor, *value[at + 1 :]] if inside else tensor}


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.__name__)
def case(request):
    made = request.param()
    made.model = made.model or tiny.build(made.name)
    return made


def first_of(model):
    kind, number = next(iter(Adapter(model).blocks))
    return f"{kind}.{number}"


def captured(case, places, inputs=None, **choice):
    with torch.no_grad(), dl.capture(case.model, places, **choice) as cache:
        case.model(**inputs or case.inputs)
    return cache


def has_text(case):
    return not (case.name.startswith("QwenImage21") and case.inputs.get("kv_cache_mode") == "cached")


def test_the_image_alone_is_the_image(case):
    """One changed patch moves the token at its place in the grid; a changed reference image moves no stream."""
    first = first_of(case.model)
    places = [f"{first}.image.in", *([f"{first}.text.in"] if has_text(case) else [])]
    plain, other = (captured(case, places, each) for each in (case.inputs, moved(case.inputs, *case.at)))
    grid, after = (cache.to_grid(places[0], step=0)[0] for cache in (plain, other))
    assert grid.shape[:-1] == case.grid and plain[places[0], 0].shape[1] == grid[..., 0].numel()
    changed = (grid != after).any(-1).nonzero().tolist()
    expected = [n - 1 for n in case.grid[:-2]] + [2, 3]
    assert expected in changed and (case.mixed or changed == [expected])
    assert all(torch.equal(plain[text], other[text]) for text in places[1:])
    if case.reference[1] is not None and not case.mixed:
        moves = moved(case.inputs, *case.reference)
        moved_too = captured(case, places, moves)
        assert all(torch.equal(plain[place], moved_too[place]) for place in places)
        with torch.no_grad():  # and yet the model reads it
            outputs = [torch.as_tensor(flat(case.model(**each))[0]) for each in (case.inputs, moves)]
        assert not torch.equal(*outputs)


def flat(output):
    output = output.to_tuple() if hasattr(output, "to_tuple") else output
    if isinstance(output, torch.Tensor):
        return [output]
    return [t for each in output for t in flat(each)] if isinstance(output, tuple | list) else []


def test_attention_to_reference_images_is_attention_to_other_tokens(case):
    blocks = [f"{kind}.{n}" for (kind, n), block in Adapter(case.model).blocks.items() if not block.textless]
    streams = ["image", *(["text"] if has_text(case) else [])]
    cache = captured(case, [f"{block}.{s}.attn.to_{{text,image,other}}" for block in blocks for s in streams])
    for block in blocks:
        for stream in streams:
            head = f"{block}.{stream}.attn.to_"
            rows = [cache[head + toward, 0].sum(-1) for toward in ("text", "image", "other")]
            torch.testing.assert_close(torch.stack(rows).sum(0), torch.ones_like(rows[0]))
            assert cache[head + "image"].shape[-1] == torch.tensor(case.grid).prod()
            if stream == "image":
                assert rows[2][0].min() > 1e-3  # of the first item: OmniGen's second has no reference image


def test_maps_are_the_softmax_of_captured_queries_and_keys(case):
    """Of the image to itself: the shares of its own keys agree, whatever else there is."""
    first = first_of(case.model)
    cache = captured(case, [f"{first}.image.{point}" for point in ("q", "k", "attn.to_image")], heads="all")
    maps = cache[f"{first}.image.attn.to_image", 0]
    q, k = (cache[f"{first}.image.{letter}", 0] for letter in "qk")
    width = q.shape[-1] // maps.shape[1]
    q, k = (each.unflatten(-1, (-1, width)).transpose(1, 2) for each in (q, k))
    k = k.repeat_interleave(q.shape[1] // k.shape[1], 1)
    scores = (q @ k.mT / width**0.5).softmax(-1)
    torch.testing.assert_close(maps / maps.sum(-1, keepdim=True), scores, rtol=1e-4, atol=1e-5)


def test_a_change_of_the_image_leaves_reference_images_alone(case):
    """Raw hooks on the second block see as many changed tokens as the image has."""
    first, (_, second) = first_of(case.model), list(Adapter(case.model).blocks.values())[:2]

    def entering(change):
        seen = []

        def keep(module, args, kwargs):
            seen[:] = [
                x.clone() for x in (*args, *kwargs.values()) if isinstance(x, torch.Tensor) and x.ndim > 1
            ]

        handle = second.module.register_forward_pre_hook(keep, with_kwargs=True)
        with torch.no_grad(), dl.intervene(case.model, {f"{first}.image.out": change}):
            case.model(**case.inputs)
        handle.remove()
        return seen

    plain, shifted = entering(lambda values: values + 0.0), entering(lambda values: values + 1.0)
    changed = [(a != b).any(-1) for a, b in zip(plain, shifted, strict=True)]
    batch = 1 if case.name.startswith("Cosmos") else len(case.inputs.get("hidden_states", [0]))
    assert sum(int(each.sum()) for each in changed) == batch * torch.tensor(case.grid).prod()


def test_the_conditioning_vector_is_the_images_own(case):
    """Some models embed time 0 for reference images, in further rows or a second call."""
    batch = 1 if case.name.startswith("Cosmos") else len(case.inputs["hidden_states"])
    cond = captured(case, "cond")["cond", 0]
    assert cond.shape[0] == batch
    later = dict(case.inputs)
    key = "vision_timesteps" if case.name.startswith("Cosmos") else "timestep"
    if case.name.startswith("MiniMax"):
        later[key] = torch.tensor([0.7, 0.9])
    else:
        later[key] = later[key] * 0.5
    assert not torch.equal(captured(case, "cond", later)["cond", 0], cond)
    with torch.no_grad():
        before = flat(case.model(**case.inputs))[0]
        if Adapter(case.model).architecture.cond.startswith("module"):
            with dl.intervene(case.model, {"cond": dl.scale(1.0)}) as session:
                after = flat(case.model(**case.inputs))[0]
            assert torch.equal(before, after) and session.applied == {"cond": 1}


# --- keys and values that an earlier call left -------------------------------------------------------------


def test_a_call_that_only_fills_a_cache_is_no_step():
    """GLM-Image runs its reference images through the transformer, at time 0, before the first step."""
    model, reference = glm("write")
    inputs = tiny.inputs("GlmImageTransformer2DModel") | {"kv_caches": reference["kv_caches"]}
    shifted = []
    with (
        torch.no_grad(),
        dl.intervene(model, {"joint.0.image.out": lambda v: shifted.append(len(v)) or v}),
        dl.capture(model, "joint.0.image.out") as cache,
    ):
        model(**reference)
        inputs["kv_caches"].set_mode("read")
        model(**inputs)
    assert shifted == [2] and [(item.run, item.row) for item in cache.items] == [(0, 0), (0, 1)]
    assert cache.steps == [0] and cache.grids == {0: (4, 6)}


def test_text_that_is_cached_can_be_read_at_step_0():
    case = qwen21_extracting()
    later = case.inputs | {"kv_cache_mode": "cached", "timestep": torch.tensor([0.25])}

    def run():
        with torch.no_grad():
            for inputs in (case.inputs, later):
                case.model(**inputs)

    with dl.capture(case.model, "single.*.text.*", steps=0) as text:
        run()
    with dl.capture(case.model, ["single.*.image.*", "single.*.text.{k,v}"]) as both:
        run()
    assert text.steps == [0] and both.steps == [0, 1]
    assert text["single.0.text.out", 0].shape[1] == 5
    assert torch.equal(both["single.1.text.k", 0], both["single.1.text.k", 1])
    assert both["single.1.image.attn.to_text", 1].shape[1:] == (24, 5)
    for places in ("single.0.text.out", "single.0.text.attn.to_image"):
        with (
            pytest.raises(
                CaptureError, match=r"after step 0 .* steps=0, or run the pipeline with use_kv_cache=False"
            ),
            dl.capture(case.model, places),
        ):
            run()


# --- what comes before the text ----------------------------------------------------------------------------


def test_no_first_image_leaves_the_text_as_it_was():
    """HunyuanVideo 1.5 takes zeros for no image, and puts them behind the real tokens as padding."""
    case = hunyuan_video15()
    model = tiny.build(case.name)
    with torch.no_grad(), dl.capture(model, "joint.0.text.in") as cache:
        model(**case.inputs | {"image_embeds": torch.zeros(2, 2, 8)})
    assert cache["joint.0.text.in", 0].shape[1] == 10 and cache.mask().sum(1).tolist() == [8, 8]


def test_masks_of_text_around_images():
    """Padding on the left of OmniGen's text stays known where reference images are taken out of it."""
    case = omnigen()
    case.inputs["attention_mask"][0, :, 0] = 0
    case.model = tiny.build(case.name)
    cache = captured(case, "single.0.text.in")
    embedded = case.model.embed_tokens(case.inputs["input_ids"])
    assert cache.mask()[0].tolist() == [False] + [True] * 4 + [False] * 15 and bool(cache.mask()[1].all())
    torch.testing.assert_close(cache["single.0.text.in", 0][0, :5], embedded[0, [0, 1, 17, 18, 19]])
    torch.testing.assert_close(cache["single.0.text.in", 0][1], embedded[1])


def test_motif_reads_the_text_behind_the_first_image():
    case = motif()
    case.inputs["encoder_attention_mask"][1, 3:] = 0
    cache = captured(case, "joint.0.text.in")
    assert cache["joint.0.text.in", 0].shape[1] == 5 and cache.mask().sum(1).tolist() == [5, 3]


# --- grids -------------------------------------------------------------------------------------------------


def grid_of(name, **changes):
    model = tiny.build(name)
    site = f"{first_of(model)}.image.in"
    with torch.no_grad(), dl.capture(model, site) as cache:
        model(**tiny.inputs(name) | changes)
    return cache, site


def test_positions_of_a_packed_sequence_give_a_grid():
    ids = torch.cat([torch.zeros(5, 3), positions(4, 6, 3)])
    cache, site = grid_of("Krea2Transformer2DModel", position_ids=ids)
    assert cache.to_grid(site).shape[2:4] == (4, 6)
    ids = torch.cat([torch.arange(5.0)[:, None].expand(5, 3), positions(4, 6, 3) + 100]).long()
    cache, site = grid_of("Ideogram4Transformer2DModel", position_ids=ids.expand(2, -1, -1))
    assert cache.to_grid(site).shape[2:4] == (4, 6)
    cache, site = grid_of("Krea2Transformer2DModel", position_ids=torch.zeros(29, 3))  # these give none
    with pytest.raises(CaptureError, match="grid of the image tokens is not known"):
        cache.to_grid(site)


def test_strips_of_a_canvas_are_one_image():
    """VisualCloze fills strips of several images, which it numbers as FLUX Kontext numbers reference images."""
    case = with_ids("FluxTransformer2DModel")
    case.model = tiny.build(case.name, in_channels=8, out_channels=4)
    case.inputs |= {
        "img_ids": torch.cat([positions(4, 6, 3, 1.0), positions(4, 6, 3, 2.0)]), "hidden_states": noise(2, 48, 8)
    }  # fmt: skip
    cache = captured(case, "joint.0.image.in")
    assert cache.to_grid("joint.0.image.in", step=0).shape == (2, 2, 4, 6, 32)
    case.inputs["img_ids"][:24] = positions(3, 8, 3, 1.0)  # two shapes: no grid, and still one image
    cache = captured(case, "joint.0.image.in")
    assert cache["joint.0.image.in", 0].shape[1] == 48 and cache.grids == {0: None}


@pytest.mark.parametrize(
    ("name", "changes"),
    [("ZImageTransformer2DModel", {"x": [noise(4, 1, 8, 12), noise(4, 1, 12, 8)]}),
     ("JoyImageEditPlusTransformer3DModel", {"shape_list": [[(1, 4, 6)], [(1, 6, 4)]]}),
     ("JoyImageEditPlusTransformer3DModel", {"shape_list": [[(1, 4, 6)], [(1, 4, 5)]]})],
)  # fmt: skip
def test_images_of_several_shapes_in_one_call_have_no_common_grid(name, changes):
    cache, site = grid_of(name, **changes)
    with pytest.raises(CaptureError, match="images of one batch have several shapes. Run them one by one"):
        cache.to_grid(site)


def test_means_leave_out_what_is_not_the_image_of_a_smaller_item():
    """Items of several shapes: behind the shorter one lie its reference image and padding."""
    name = "JoyImageEditPlusTransformer3DModel"
    shapes, model = [[(1, 4, 6)], [(1, 2, 3), (1, 4, 4)]], tiny.build(name)
    inputs = tiny.inputs(name) | {"shape_list": shapes}
    means = []
    for value in (0.0, 5.0):
        inputs["hidden_states"] = inputs["hidden_states"].clone()
        inputs["hidden_states"][1, 6:] = value
        with torch.no_grad(), dl.capture(model, "joint.0.image.in", reduce="mean") as mean:
            model(**inputs)
        means.append(mean["joint.0.image.in", 0])
    assert torch.equal(*means)


def test_positions_are_read_once_for_each_call(monkeypatch):
    """Reading them from a GPU waits for everything before."""
    read, real = [], layouts.by_ids
    monkeypatch.setitem(layouts.GRIDS, "ids", lambda *args: read.append(1) or real(*args))
    case = flux()
    case.model = tiny.build(case.name)
    captured(case, "*.*.*.*")
    assert len(read) == 1


def test_padding_of_an_image_that_is_not_square_belongs_to_no_stream():
    """HiDream fills 24 patches up to the most that it takes, 64, and lets them be attended to."""
    name = "HiDreamImageTransformer2DModel"
    model, inputs = tiny.build(name), tiny.inputs(name) | {"hidden_states": noise(2, 4, 8, 12)}
    with torch.no_grad(), dl.capture(model, "*.0.image.{in,attn.to_other}") as cache:
        model(**inputs)
    for kind in ("joint", "single"):
        assert cache.to_grid(f"{kind}.0.image.in", step=0).shape == (2, 4, 6, 32)
        assert cache[f"{kind}.0.image.in", 0].shape[1] == 24
        assert cache[f"{kind}.0.image.attn.to_other", 0].min() > 0.01


def test_layouts_that_cannot_be_read_are_refused():
    """Z-Image in its omni mode, with a reference image before the image that is made."""
    model = tiny.build("ZImageTransformer2DModel")
    inputs = {
        "x": [[noise(4, 1, 8, 12), noise(4, 1, 8, 12)]], "t": torch.tensor([0.5]),
        "cap_feats": [[noise(5, 12), noise(3, 12)]], "siglip_feats": [None], "image_noise_mask": [[0, 1]],
    }  # fmt: skip
    with torch.no_grad():
        model(**inputs)
        with (
            pytest.raises(CaptureError, match=r"omni mode .* Run the pipeline without reference images"),
            dl.capture(model, "single.0.image.out"),
        ):
            model(**inputs)
