"""The identity of a model: exact, the same everywhere, and other for everything that decides hidden states."""

from __future__ import annotations

import copy
import types

import pytest
import torch

from ditlens.bench import runner
from ditlens.bench.entries import Entry
from ditlens.bench.suites import open_suite
from ditlens.ems.edit import edit
from ditlens.ems.loops import SDEDIT
from ditlens.errors import ModelError, StudyError
from ditlens.lens.study.run import plan_study, run_study
from ditlens.models.identity import SLICE, byte_hash, fingerprint, setup
from ditlens.models.loading import load


class Scheduler:
    def __init__(self, **settings):
        self.config = {"_diffusers_version": "1", **settings}


def model(**changes):
    """A model of linear layers; `changes` replace its parts."""
    parts = {}
    for name in ("transformer", "text_encoder", "text_encoder_2", "vae"):
        torch.manual_seed(len(name))
        parts[name] = torch.nn.Sequential(torch.nn.Linear(5, 3), torch.nn.LayerNorm(3))
    parts |= {"text_encoder_3": None, "scheduler": Scheduler(shift=3.0), "tokenizer": object(), **changes}
    pipe = types.SimpleNamespace(components=parts, scheduler=parts["scheduler"])
    return types.SimpleNamespace(pipe=pipe)


def test_it_does_not_depend_on_the_number_of_threads():
    """A sum of floats does, from some 30 000 numbers on: a resumed study was taken for another."""
    large = torch.randn(3_000_001, generator=torch.Generator().manual_seed(0))
    before, found = torch.get_num_threads(), set()
    try:
        for threads in (1, 2, 3, 7):
            torch.set_num_threads(threads)
            found.add(byte_hash(large))
    finally:
        torch.set_num_threads(before)
    assert len(found) == 1


def test_it_is_the_same_in_every_version():
    """Studies outlive versions: what is written in a manifest must not change meaning."""
    assert byte_hash(torch.arange(1000, dtype=torch.int16)) == 8782636444731863260
    zeros = torch.nn.Linear(2, 2)
    for value in zeros.parameters():
        value.data.zero_()
    plain = {"transformer": zeros, "text_encoder": None, "text_encoder_2": None}
    assert fingerprint(model(**plain)) == "32ab5a21f279bc79"


@pytest.mark.parametrize(
    "values",
    [torch.tensor(3.0), torch.empty(0, 4), torch.ones(3, dtype=torch.bool), torch.arange(5, dtype=torch.uint8),
     torch.ones(3, 5).to(torch.float8_e4m3fn), torch.randn(4, 6).t(), torch.randn(9)[3:]],
    ids=lambda x: f"{x.dtype}{tuple(x.shape)}",
)  # fmt: skip
def test_every_kind_of_tensor(values):
    assert byte_hash(values) == byte_hash(values.clone().contiguous())


def test_one_bit_or_one_swap_makes_another():
    values = torch.randn(SLICE // 4 + 1000)
    first = byte_hash(values)
    for place in (0, 1, SLICE // 4 - 1, SLICE // 4, len(values) - 1):
        other = values.clone()
        other.view(torch.int32)[place] ^= 1
        assert byte_hash(other) != first
    swapped = values.clone()
    swapped[[2, 4]] = swapped[[4, 2]]
    turned = torch.cat([values[SLICE // 4 :], values[: SLICE // 4]])
    assert len({first, byte_hash(swapped), byte_hash(turned)}) == 3


def test_what_decides_hidden_states_counts_and_the_rest_does_not():
    first = fingerprint(model())
    assert first == fingerprint(model())
    assert first == fingerprint(model(vae=torch.nn.Linear(2, 2), tokenizer=None))
    assert first == fingerprint(model(scheduler=Scheduler(shift=3.0, _diffusers_version="2")))
    others = [model(scheduler=Scheduler(shift=1.0))]
    for part in ("transformer", "text_encoder", "text_encoder_2"):
        changed = model()
        with torch.no_grad():
            changed.pipe.components[part][0].weight[0, 0] += 1
        others.append(changed)
    half = model()
    half.pipe.components["transformer"].to(torch.bfloat16)
    assert len({first, *map(fingerprint, [*others, half])}) == 6


def test_offloaded_weights_are_found():
    """Sequential offloading leaves shapes in the network, which have no values to add up."""
    from accelerate import cpu_offload

    whole = model()
    parts = copy.deepcopy(whole.pipe.components)
    cpu_offload(parts["transformer"], torch.device("cpu"))
    assert next(parts["transformer"].parameters()).is_meta
    assert fingerprint(model(**parts)) == fingerprint(whole)


def test_a_real_model(portraits):
    assert len(fingerprint(portraits)) == 16


# --- what acts beside the weights ---------------------------------------------------------------------------


class LoraLayer(torch.nn.Module):
    """What a layer of PEFT says of its adapters."""

    def __init__(self, active="style", off=False, merged=(), **scaling):
        super().__init__()
        self.active_adapter, self.disable_adapters = active, off
        self.merged_adapters, self.scaling = list(merged), scaling


class Processor:
    """An attention processor that chooses among backends."""

    def __init__(self, backend=None):
        self._attention_backend = backend


def with_layer(layer):
    made = model()
    made.pipe.components["transformer"].append(layer)
    return made


def with_attention(processor):
    layer = torch.nn.Module()
    layer.processor = processor
    return with_layer(layer)


def test_adapters_that_act_count_with_their_scales():
    states = {
        "half": LoraLayer(style=0.5),
        "whole": LoraLayer(style=1.0),
        "off": LoraLayer(off=True, style=0.5),
        "other": LoraLayer(active="ink", style=0.5, ink=0.5),
        "both": LoraLayer(active=["ink", "style"], style=0.5, ink=0.5),
        "merged": LoraLayer(active="ink", merged=["both"], both=0.5, ink=0.5),
    }
    said = {name: setup(with_layer(layer))["adapters"] for name, layer in states.items()}
    assert said == {
        "half": {"transformer": {"style": [0.5]}},
        "whole": {"transformer": {"style": [1.0]}},
        "off": {},
        "other": {"transformer": {"ink": [0.5]}},
        "both": {"transformer": {"ink": [0.5], "style": [0.5]}},
        "merged": {"transformer": {"both": [0.5]}},
    }
    assert len({fingerprint(with_layer(layer)) for layer in states.values()}) == len(states)
    assert fingerprint(with_layer(states["off"])) == fingerprint(model())
    assert fingerprint(with_layer(LoraLayer(active="elsewhere", style=1.0))) == fingerprint(model())


def test_another_attention_counts_and_the_usual_one_does_not(monkeypatch):
    from diffusers.models.attention_dispatch import attention_backend
    from diffusers.models.attention_processor import JointAttnProcessor2_0

    monkeypatch.setattr(f"{setup.__module__}.USUAL", ("JointAttnProcessor2_0", "Processor"))
    plain = fingerprint(model())
    for usual in (JointAttnProcessor2_0(), Processor(), Processor("native")):
        assert fingerprint(with_attention(usual)) == plain
        assert setup(with_attention(usual))["attention"] == {}
    sage = with_attention(Processor("sage"))
    assert setup(sage)["attention"] == {"transformer": ["sage"]} and fingerprint(sage) != plain
    with attention_backend("_native_math"):
        assert fingerprint(with_attention(Processor())) != plain
        assert setup(with_attention(Processor()))["attention"] == {"transformer": ["_native_math"]}
    mine = with_attention(types.SimpleNamespace())
    assert setup(mine)["attention"] == {"transformer": ["SimpleNamespace"]} and fingerprint(mine) != plain


def test_autocast_counts():
    plain = fingerprint(model())
    with torch.autocast("cpu", torch.bfloat16):
        assert setup(model())["dtype"] == "float32, autocast bfloat16 (cpu)" and fingerprint(model()) != plain
    assert fingerprint(model()) == plain and setup(model())["dtype"] == "float32"


@pytest.fixture
def lora(monkeypatch, portraits):
    """A function that gives the model an adapter of a scale; it goes with the test."""

    def put(scale):
        layer = portraits.transformer.transformer_blocks[0].attn.to_q
        for name, value in vars(LoraLayer(style=scale)).items():
            if not name.startswith("_") and name != "training":
                monkeypatch.setattr(layer, name, value, raising=False)

    return put


def test_a_study_does_not_mix_scales_of_an_adapter(portraits, lora, tmp_path):
    asked = (portraits, ["a man"], [0], "joint.0.image.out")
    plain = plan_study(*asked, sampling_steps=1)
    run_study(portraits, plain, tmp_path)
    assert plain.setup == {"dtype": "float32", "adapters": {}, "attention": {}}
    lora(0.5)
    with pytest.raises(ModelError, match=r"adapters \{'transformer': \{'style': \[0.5\]\}\}.* Plan it again"):
        run_study(portraits, plain, tmp_path)
    with pytest.raises(StudyError, match="scheduler, the model's adapters differ"):
        run_study(portraits, plan_study(*asked, sampling_steps=1), tmp_path)
    half = plan_study(*asked, sampling_steps=1)
    lora(1.0)
    assert plan_study(*asked, sampling_steps=1).key not in (half.key, plain.key)


def test_recipes_and_benchmarks_say_what_acted(portraits, lora, tmp_path):
    lora(0.5)
    picture = portraits.generate("a portrait", steps=1)
    recipe = edit(
        portraits, picture, source_text="a red shirt", target_text="a blue shirt", degree=0.0
    ).recipe
    about = runner.plan_bench(
        portraits, open_suite("portraits-dev", 1), {"sdedit": Entry("sdedit", SDEDIT)}, tmp_path, [1.0], 0
    )
    for said in (recipe, about["setup"]):
        assert said["dtype"] == "float32" and said["attention"] == {}
        assert said["adapters"] == {"transformer": {"style": [0.5]}}
    made_with = about["made_with"]
    lora(1.0)
    assert runner.made_with(portraits, runner.Scorer(portraits)) != made_with


# --- where it computes --------------------------------------------------------------------------------------


def test_the_device_follows_the_weights_and_their_hooks(portraits_folder):
    """It is looked up anew where weights or hooks have changed, and only then."""
    model, asked = load(portraits_folder), []

    class Pipe(type(model.pipe)):
        @property
        def _execution_device(self):
            asked.append(1)
            hook = getattr(self.transformer, "_hf_hook", None)
            return hook.execution_device if hook else next(self.transformer.parameters()).device

    model.pipe.__class__ = Pipe
    model._placed = (None, None)
    assert [model.device.type for _ in range(3)] == ["cpu"] * 3 and len(asked) == 1
    model.transformer._hf_hook = types.SimpleNamespace(execution_device=torch.device("cuda", 1))
    assert [str(model.device) for _ in range(2)] == ["cuda:1"] * 2 and len(asked) == 2
    del model.transformer._hf_hook
    model.transformer.to("meta")
    assert model.device.type == "meta" and len(asked) == 3
