# %%
import tempfile

import diffusers
import torch

import ditlens as dl
from ditlens import course
from ditlens.lens.study.run import plan_study, run_study

course.start("11")

# %%
model = course.model()

# %% [markdown]
# Everything so far ran on a model of a few million weights. The same calls run on SD3.5 and FLUX. This notebook is about
# what changes: sizes, memory, minutes, and how not to fill a disk. Nothing is downloaded here. Where a number was
# *measured* elsewhere or is *computed* here, it says so.

# %%
course.diagram("11")

# %% [markdown]
# ## 1 · The same classes, larger
#
# PyTorch's `meta` device makes a network with shapes and without weights. So we can look at the real architectures on any
# laptop. The settings below are those of the published models.
#
# **Predict.** How many times as many weights as `portraits` has FLUX.1?

# %%
sd3 = {"sample_size": 128, "in_channels": 16, "out_channels": 16, "joint_attention_dim": 4096}
sd3 |= {"qk_norm": "rms_norm", "attention_head_dim": 64, "pooled_projection_dim": 2048}
blocks = {"num_layers": 24, "num_attention_heads": 24, "dual_attention_layers": tuple(range(13))}
medium = {**sd3, **blocks, "caption_projection_dim": 1536, "pos_embed_max_size": 384}
blocks = {"num_layers": 38, "num_attention_heads": 38}
large = {**sd3, **blocks, "caption_projection_dim": 2432, "pos_embed_max_size": 192}
SD3, Flux = diffusers.SD3Transformer2DModel, diffusers.FluxTransformer2DModel
with torch.device("meta"):
    real = {"SD3.5-medium": SD3(**medium), "SD3.5-large": SD3(**large)}
    real["FLUX.1-dev"] = Flux(guidance_embeds=True)

# %%
print(f"{'(computed)':14} joint  single  width   weights    in bfloat16")
for name, net in {model.name: model.pipe.transformer, **real}.items():
    weights = sum(each.numel() for each in net.parameters())
    blocks = f"{len(net.transformer_blocks):6}{len(getattr(net, 'single_transformer_blocks', ())):8}"
    print(f"{name:14}{blocks}{net.inner_dim:7}{weights / 1e6:8.0f} M{2 * weights / 1e9:10.2f} GB")

# %% [markdown]
# FLUX.1 has some 1500 times as many weights as `portraits`.
#
# On top come the text encoders. The largest, T5-XXL, has about 4.8 billion weights (9.5 GB in bfloat16); it runs once for
# each text, so it can wait in main memory. `dl.load` looks at what is free, chooses number format and placement, and says
# why; `dl.load(NAME, "cuda", torch.bfloat16, profile="offload")` decides it for you.
#
# What else is different:
#
# | | portraits | SD3.5 | FLUX.1-dev |
# |---|---|---|---|
# | blocks | joint | joint | joint, then *single*: one set of weights for both streams |
# | text | two small CLIPs | two CLIPs and T5 | T5; CLIP for the pooled vector only |
# | guidance | a second pass, `uncond` | a second pass, `uncond` | *embedded*: an input; no `uncond` pass |
# | order inside the softmax | image, text | image, text | text, image |
#
# You need not remember the last line. A site names its stream, and ditlens knows where it lies.
#
# ### Exercise 11.1
# The autoencoder makes one latent cell of 8 × 8 pixels, and a patch has 2 × 2 cells. How many image tokens has a picture
# of 768 × 768 pixels?

# %% tags=["exercise"]
tokens = ...
course.check("11.1", tokens)

# %% tags=["solution"]
tokens = (768 // 8 // 2) ** 2
course.check("11.1", tokens)

# %% [markdown]
# ## 2 · The same calls on another class
#
# Here is a FLUX-class pipeline, made in this cell, with **random weights**. It shows that the calls run. Random weights
# show mechanics, never meaning: its pictures are noise, and so is everything that could be read in them.

# %%
torch.manual_seed(0)
tiny = {"patch_size": 1, "in_channels": 4, "num_layers": 2, "num_single_layers": 3, "attention_head_dim": 16}
tiny |= {"num_attention_heads": 2, "joint_attention_dim": 32, "pooled_projection_dim": 16}
net = Flux(**tiny, guidance_embeds=True, axes_dims_rope=(4, 4, 8))
none = dict.fromkeys(("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"))
scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
flux = diffusers.FluxPipeline(transformer=net, scheduler=scheduler, **none)
flux.set_progress_bar_config(disable=True)

# %%
text = {"prompt_embeds": torch.randn(1, 5, 32), "pooled_prompt_embeds": torch.randn(1, 16)}
with dl.capture(flux, "*.*.{text,image}.out", passes=None) as cache:
    flux(**text, height=64, width=64, num_inference_steps=3, output_type="latent")
cache

# %% [markdown]
# Joint and single blocks, both streams apart, steps counted by the scheduler. **Predict** before you read on: we asked for
# all passes, and there is only one. Why?
#
# FLUX.1-dev is told its guidance as a number. There is no pass without a text to compare with. Code that waits for an
# unconditional half waits for ever, or takes half of a batch for it.
#
# An SD3-class pipeline around our own text encoders and autoencoder, with a random transformer of two blocks, becomes a
# ditlens model by `dl.wrap`. That is how you bring a fine-tuned pipeline of your own, with its LoRAs.

# %%
# portraits only: it borrows its encoders
parts = dict(model.pipe.components)
parts["transformer"] = SD3(**{**model.pipe.transformer.config, "num_layers": 2, "dual_attention_layers": ()})
own = dl.wrap(diffusers.StableDiffusion3Pipeline(**parts), "random")
edit = dl.edit(own, own.generate("a cat", seed=0), source_text="a red cat", target_text="a blue cat")
print(
    f"world {own.world}, drift {edit.drift}, {edit.evaluations} evaluations of {edit.recipe['method']['name']}"
)
edit.image

# %% [markdown]
# No world, so no drift; the rest is as you know it. (There are more evaluations than in notebook 09 because such models are
# guided: each velocity takes a pass with the text and one without. Those that look for the mask are counted, too.) With the real weights it is
# `dl.load("stabilityai/stable-diffusion-3.5-medium")`, and the same for FLUX. Both are
# *gated*: accept the licence on the model's page and log in with `hf auth login` first. Read that licence: FLUX.1-dev's is
# non-commercial, and SD3.5's has a limit of revenue.
#
# ### Exercise 11.2
# How many sites match `*.*.image.out` in FLUX.1-dev? `dl.sites(real["FLUX.1-dev"])` lists them, on the meta device too.

# %% tags=["exercise"]
count = ...
course.check("11.2", count)

# %% tags=["solution"]
flux_dev = real["FLUX.1-dev"]
count = len(flux_dev.transformer_blocks) + len(flux_dev.single_transformer_blocks)
course.check("11.2", count)

# %% [markdown]
# ## 3 · How much will it be? Ask before you run
#
# `dl.estimate` runs one sampling step and says what a capture will take, and what would be smaller.

# %%
print(dl.estimate(model, "joint.*.{text,image}.out", items=1000))

# %% [markdown]
# A capture in memory stops itself before the machine does: the limit is 1 GB, unless you set it.

# %%
try:
    with dl.capture(model, "joint.*.{text,image}.out", limit="100 kB"):
        model.generate("a portrait with a big smile", seed=0, steps=2)
except dl.errors.DitlensError as error:
    print(f"{type(error).__name__}: {error}")

# %% [markdown]
# ### Exercise 11.3
# In exercise 03.3 one picture of SD3.5-medium came to 9.1 GB. And FLUX.1-dev? 4096 image and 512 text tokens, width 3072, 19 joint
# and 38 single blocks, all of which have both outputs, 28 steps, bfloat16. How many **GB** (10⁹ bytes) are all image and text
# `out` of *one* picture?

# %% tags=["exercise"]
gigabytes = ...
course.check("11.3", gigabytes)

# %% tags=["solution"]
gigabytes = 28 * (19 + 38) * (4096 + 512) * 3072 * 2 / 1e9
course.check("11.3", gigabytes)

# %% [markdown]
# Two thousand pictures of that fit on no laptop. So **reduce while capturing**:
#
# | setting | keeps | of the width 1536 in bfloat16 |
# |---|---|---|
# | `reduce=None` | everything | all |
# | `tokens={"image": [43]}` | some tokens whole | one of 4096 |
# | `reduce="sketch:64"` | every token, projected to 64 numbers | a 24th |
# | `reduce="mean"` | one vector for each stream | one of 4096 |
# | `steps=[0, 7, 14]`, fewer blocks | some of them | as many |
#
# ### Exercise 11.4
# You have 1 TB of disk, want 2000 pictures of SD3.5-medium with all blocks and steps, and will look for *where* in the
# picture something can be read. Which: `"none"`, `"sketch:64"` or `"mean"`?

# %% tags=["exercise"]
reduction = ...
course.check("11.4", reduction)

# %% tags=["solution"]
reduction = "sketch:64"
course.check("11.4", reduction)

# %% [markdown]
# ## 4 · Many prompts, on disk, resumable
#
# A *study* is a folder. Every item (one prompt, one seed) becomes one file, whole or not at all. Below, the run is
# killed after three of six items, in a temporary folder.
#
# **Predict.** The same command again: how many items will be computed?

# %%
prompts = ["a portrait with a big smile", "a portrait with a frown", "a portrait with a hat"]
kept = {"sites": "joint.*.image.out", "steps": [1], "reduce": "sketch:16"}
plan = plan_study(model, prompts, seeds=[0, 1], sampling_steps=2, **kept)
folder, finished = tempfile.TemporaryDirectory(), []


def killed(done, total):
    finished.append(f"{done} of {total}")
    if done == 3:
        raise KeyboardInterrupt


# %%
try:
    run_study(model, plan, folder.name, progress=killed)
except KeyboardInterrupt:
    print("killed:", finished)

# %%
finished.clear()
study = run_study(model, plan, folder.name, progress=lambda *now: finished.append("{} of {}".format(*now)))
print("second run:", finished)
print(len(study.items), "items; what one site holds:", tuple(study.read("joint.0.image.out").tensor.shape))

# %% [markdown]
# The shell does the same, and several processes share the work by sharing the folder:
#
#     ditlens capture --prompts prompts.txt --seeds 0:4 --sites "joint.*.image.out" --out study
#     ditlens capture ... --dry-run              # how much will it be?
#     ditlens capture ... --workers 4            # four processes, one for each GPU
#     torchrun --nproc-per-node 4 -m ditlens capture ...   # or srun
#     ditlens capture ... --engine ray           # on a Ray cluster
#
# They exchange nothing but files. Measured with two processes of one thread each and 120 prompts, on CPUs: 1.8 times as
# fast as one.

# %%
folder.cleanup()

# %% [markdown]
# ## 5 · Minutes and memory of an edit
#
# **Measured** on one NVIDIA H200, SD3.5-medium's geometry at 1024 × 1024 in bfloat16, with random weights (time does not
# depend on them) and shallow text encoders:
#
# | | velocities, each pass counted | seconds | peak memory |
# |---|---|---|---|
# | a sample, 28 steps, guided | 56 | 2.4 | 8.3 GB |
# | an edit by EMS, its mask included | 72 | 3.6 | 8.3 GB |
# | an edit by FlowEdit | 132 | 6.2 | 8.3 GB |
#
# **Computed** from it: 1000 edits by EMS are one hour. An edit took about 1.5 times as long as a sample; for
# another GPU, time one sample and multiply. (That the ratio holds there was not measured.)
#
# What to do about memory, in this order: `torch.bfloat16`; text encoders offloaded; fewer items in a batch; a smaller
# picture. Capturing hidden states *whole* from all blocks made a call 2.7 times as long on the same GPU; means of a few
# blocks cost a few per cent.
#
# ## 6 · Who describes a photograph?
#
# The portraits describer knows nothing of photographs. For other models you choose:
#
# | | how | mind |
# |---|---|---|
# | yourself | `source_text=`, `target_text=` | the surest way |
# | a model on your computer | `describer="org/name"` | below about 2 billion weights it often misses the form |
# | a server | `describer="http://127.0.0.1:11434/v1#llava"` | hosted ones see your pictures; keys only in the environment |
# | recorded answers | `describer="texts.json"` | one asks, a whole course replays |
#
# A describer is any object with a name and two methods. Here is the smallest:

# %%
from ditlens.describers.choice import ByHand

photo = model.generate("a portrait with a big smile", seed=0)
print(dl.extract(photo, "make it winter", ByHand("a street in summer", "a street in winter"), model=model))

# %% [markdown]
# A describer by hand says what you told it, and nobody looks whether the picture shows a street: this one is a portrait.
# Our small text encoders were not taught seasons and spell them in pieces; the last lines say what to reword.
#
# ## What not to conclude
#
# - That a call runs on random weights says that the call runs. It says nothing about what a trained model would show.
# - Findings about `portraits` (which block, which step, which route) are hypotheses about SD3.5 and FLUX, no more.
# - Nobody measures drift on photographs as an oracle does here. What stands in for it (CLIP, a judge that answers
#   questions) has errors of its own.
# - Seconds on one GPU are not seconds on yours, and a price per edit changes faster than a notebook.
#
# **To discuss.** With one GPU hour and 1 TB, which question about SD3.5 would you ask? And which findings of notebooks 00
# to 10 would you check first on a larger model?
