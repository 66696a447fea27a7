# %%
import numpy as np
import torch

import ditlens as dl
from ditlens import course
from ditlens.errors import BudgetError, SiteError
from ditlens.views.plots import panels, plot_portraits

course.start("03")

# %% [markdown]
# A picture shows what a model decided. To see how it got there, record what it holds on the way: a *hidden state* for
# every token, in every block, at every step. This notebook is about doing so without deceiving yourself. You must know
# where a number came from, from which step and which pass, and that recording it changed nothing.

# %%
course.diagram("03")

# %% [markdown]
# ## 1 · Sites and patterns
#
# A place where a hidden state can be read is a *site*. Its address is block × stream × point, such as
# `joint.3.image.out`. Here are the sites of the image stream (notebook 01 shows those of the text, too). A line stands
# for a range of blocks: `0:6` are blocks 0 to 5. *Items* are the images that are made at the same time.

# %%
model = course.model()
last = model.transformer.config.num_layers - 1  # number of the last joint block
dl.sites(model, "joint.*.image.*")

# %% [markdown]
# The last column says what is read. A pattern chooses several sites: `*` is any, `{a,b}` a choice, `0:4` a range.
#
# **Predict.** The pattern `joint.*.{text,image}.out` names two streams in every joint block. Is the number of sites
# that it fits twice the number of blocks?

# %%
with dl.capture(model, "joint.*.{text,image}.out", steps=[0, 7], passes=None) as cache:
    image = model.generate("a portrait with a big smile", seed=0, steps=8)
print(last + 1, "blocks,", len(cache.sites), "sites, the last three:", *cache.sites[-3:])
try:
    dl.capture(model, f"joint.{last}.text.out")
except SiteError as why:
    print(why)

# %% [markdown]
# One is missing, if the model has joint blocks only. What would come out of the text stream of the last block is read by
# nobody, so it is never computed. A tool that numbers outputs by their place in a tuple can give you something else
# there, without an error.
#
# ### Exercise 03.1
# Write one pattern for these four sites, and no others: the image stream as it enters and as it leaves blocks 2 and 3.
# The check tries it on a model with six joint blocks.

# %% tags=["exercise"]
pattern = ...
course.check("03.1", pattern)

# %% tags=["solution"]
pattern = "joint.2:4.image.{in,out}"
course.check("03.1", pattern)

# %% [markdown]
# ## 2 · The address of a tensor
#
# Two steps were captured, and both *passes*: for guidance the model is asked twice in each step, under the text (`cond`)
# and under the empty text (`uncond`). `passes=None` keeps both; by default only `cond` is kept.
#
# **Predict.** What shape has the image stream of one site at step 7, in one pass? What if no step is named?

# %%
site = "joint.0.image.out"
print("one step   ", tuple(cache[site, 7, "cond"].shape), " (images, tokens, width)")
print("all steps  ", tuple(cache.get(site, pass_="cond").shape), " (steps, images, tokens, width)")
print("on a grid  ", tuple(cache.to_grid(site, step=7, pass_="cond").shape), " (rows, columns in it)")
print("smile, rows of the text:", cache.words("smile"))
print("text rows that are no padding:", int(cache.mask("cond").sum()))

# %% [markdown]
# (The row of a word is given for each tokenizer; the two encoders share their rows, so it is the same one.)
#
# Site, step and pass: three parts, and none may be guessed. The two passes see the same latents. What differs is the
# text. How far apart are they?
#
# **Predict.** In which stream do the two passes differ more? And does the difference grow or shrink over the steps?

# %%
with dl.capture(model, "joint.*.{text,image}.out", passes=None) as both:
    model.generate("a portrait with a big smile", seed=0)

# %%
# SD3 only: FLUX has one pass, and gets the guidance as a number
figure, axes = panels(2, 2, 4.4, 2.6)
axes[1].sharey(axes[0])
for ax, stream in zip(axes, ["text", "image"], strict=True):
    for name in both.select(stream=stream).sites:
        cond, uncond = (both.get(name, pass_=each).flatten(1) for each in ("cond", "uncond"))
        share = (cond - uncond).norm(dim=1) / cond.norm(dim=1)
        ax.plot(both.steps, share, label=name.split(".")[1])
    ax.set(title=f"{stream} stream", xlabel="step", ylabel="|cond − uncond| / |cond|", yscale="log")
axes[-1].legend(title="block", fontsize=9, frameon=False)
figure

# %% [markdown]
# (Both panels have the same scale, a logarithmic one.) The text streams stay far apart, since they began as different
# texts. The image streams carry the same noisy latents, and the text can only nudge them. In portraits the nudge is largest at the first steps, and in late blocks: early on
# the latents say nothing yet, and the text is all there is. Had you averaged the two passes, or taken one for the other,
# nothing would have warned you.
#
# ## 3 · A capture changes nothing
#
# **Predict.** Every site was recorded while the picture was made. By how much do the pixels differ from those of a run
# without a capture: by nothing, by rounding, or by a level or two of brightness?

# %%
prompt = "a portrait with a big smile"
plain = np.asarray(model.generate(prompt, seed=0))
with dl.capture(model, "joint.*.{text,image}.{in,out,attn.out,mlp.out}", passes=None) as cache:
    watched = np.asarray(model.generate(prompt, seed=0))
print("largest difference of a pixel:", np.abs(plain.astype(int) - watched).max())
print("hooks still on the model:", dl.hooks_on(model))
assert np.array_equal(plain, watched)

# %% [markdown]
# By nothing. The hooks copy what passes by and return nothing, so the model computes the same numbers in the same order.
# And they are gone when the `with` block ends, whatever happened in it.
#
# Now that everything is recorded, test the diagram with it. What leaves a block should *be* what enters the next one,
# in each stream.

# %%
for stream in ("text", "image"):
    for block in range(last):
        leaves, enters = (f"joint.{block}.{stream}.out", f"joint.{block + 1}.{stream}.in")
        assert torch.equal(cache.get(leaves, pass_="cond"), cache.get(enters, pass_="cond")), leaves
print("out of block k equals in of block k + 1, to the last bit: both streams, all blocks, all steps")

# %% [markdown]
# Inside the block, the diagram says
#
# $$\text{out} = \text{in} + g \cdot \text{attn.out} + g' \cdot \text{mlp.out}$$
#
# with gates $g$ and $g'$, one number for each channel. Notebook 01 computed the gates from the weights. This time, take
# nothing but what was recorded. In one channel there are two unknowns, and as many equations as image tokens:
# `lstsq` finds the two numbers that fit best, and what they leave over.
#
# **Predict.** 2 unknowns, 64 equations. What will be left over if the formula is right, and what if it is not quite
# (if, say, the block also scaled what comes in)?

# %%
step, channel, points = 3, 5, ("in", "attn.out", "mlp.out", "out")
x, attention, mlp, out = (
    cache[f"joint.{last}.image.{point}", step, "cond"][0, :, channel].double() for point in points
)
factors = torch.stack([attention, mlp], dim=1)  # (tokens, 2): what the two gates multiply
gates = torch.linalg.lstsq(factors, (out - x)[:, None]).solution[:, 0]
missing = (factors @ gates - (out - x)).norm() / (out - x).norm()
print(f"channel {channel}: {len(x)} equations, g = {gates[0]:.4f}, g' = {gates[1]:.4f}")
print(f"left over: {missing:.0e} of the change")

# %% [markdown]
# Nothing is left over but rounding, so the formula holds (try other channels). A second route to the same gates is that
# of notebook 01: the model computes them from the conditioning vector, which is a site, too, called `cond`.

# %%
with dl.capture(model, "cond", steps=[step], passes="cond") as told:
    model.generate(prompt, seed=0)
norm = model.transformer.transformer_blocks[last].norm1
with torch.no_grad():
    parts = norm.linear(torch.nn.functional.silu(told["cond", step].to(norm.linear.weight))).chunk(6, dim=-1)
asked = torch.stack([parts[2].flatten()[channel], parts[5].flatten()[channel]]).to(gates)
print(f"the model's own: g = {asked[0]:.4f}, g' = {asked[1]:.4f}")
print(f"the two routes differ by {(gates - asked).abs().max():.0e}")

# %% [markdown]
# ## 4 · Why a hook counter is not a step
#
# The usual way to record a step is to count the calls of a hook. Here is such a hook.
#
# **Predict.** What does the counter show after one picture? After two? After an edit that takes 12 steps?

# %%
# portraits only: the edit below needs a describer
calls = []
handle = model.transformer.transformer_blocks[0].register_forward_hook(lambda *_: calls.append(1))
model.generate(prompt, seed=0)
print(f"after one picture of {model.defaults['steps']} steps: {len(calls)} calls")
model.generate(prompt, seed=0)
print(f"after a second one: {len(calls)} calls")
dl.edit(model, image, "make the person frown", seed=0)
print(f"after an edit of {model.defaults['edit']['steps']} steps: {len(calls)} calls")
handle.remove()

# %% [markdown]
# In the first picture, the counter happens to be the step. That is the trap: it works until something is called twice.
# A second picture goes on counting, and the edit makes some calls before its first step, to find out where it may change
# the picture. Other pipelines call the transformer once for each pass of guidance. So ditlens takes the step from the
# sampling loop, and the pass from whoever knows what the rows of a call are for.
#
# ### Exercise 03.2
# You call the transformer in loops of your own, and all that you see is the timestep of every call, such as
# `[1000, 1000, 750, 750, 500, 500]`. Write the function that says to which step each call belongs. Guidance may make
# two calls in some steps and one in others; a second run may follow the first, with other timesteps.


# %% tags=["exercise"]
def steps_of(timesteps):
    return [... for t in timesteps]


course.check("03.2", steps_of)


# %% tags=["solution"]
def steps_of(timesteps):
    found, before, step = [], -1.0, 0
    for t in timesteps:
        step = 0 if t > before else step + (t < before)
        found.append(step)
        before = t
    return found


course.check("03.2", steps_of)

# %% [markdown]
# ## 5 · How large will it be?
#
# **Predict.** All image and text outputs, all steps, one pass, one picture: kilobytes, megabytes or gigabytes? Work it
# out before you look: rows × width × steps × bytes of a number.

# %%
kept = both.select(pass_="cond")
rows = sum(kept.get(name).shape[2] for name in kept.sites)
width = kept.get(kept.sites[0]).shape[3]
steps = len(kept.steps)
print(f"by hand: {rows} rows x {width} x {steps} steps x 4 bytes = {rows * width * steps * 4 / 1e6:.1f} MB")
print(dl.estimate(model, "joint.*.{text,image}.out"))

# %% [markdown]
# `dl.estimate` measures one step without keeping anything. And if you forget to ask, the budget holds: a capture stops
# before it takes more memory than its limit (1 GB unless you say otherwise), and says what would fit. Below, the limit is
# so low that not even one call of the model fits.

# %%
try:
    with dl.capture(model, "joint.*.{text,image}.out", limit="100 kB"):
        model.generate(prompt, seed=0)
except BudgetError as why:
    print(why)
print("hooks still on the model:", dl.hooks_on(model))

# %% [markdown]
# ### Exercise 03.3
# SD3.5 medium has 24 joint blocks of width 1536 and makes pictures of 1024 × 1024: latents of 128 × 128, of which each
# image token is a patch of 2 × 2. Its text has 333 rows. How many GB (10⁹ bytes) do all outputs of both streams take,
# for **one** picture of 28 steps, `cond` only, in float16?

# %% tags=["exercise"]
gigabytes = ...
course.check("03.3", gigabytes)

# %% tags=["solution"]
gigabytes = (24 * (128 // 2) ** 2 + 23 * 333) * 1536 * 28 * 2 / 1e9
course.check("03.3", gigabytes)

# %% [markdown]
# ## 6 · What a reduction throws away
#
# The cheapest reduction is `reduce="mean"`: one vector instead of all tokens. What does it cost? Take two pictures that
# differ in one thing, and look where their hidden states differ.
#
# **Predict.** Two texts, one seed; only the mouth is to change. In which of the 8 × 8 patches will the image stream
# differ?

# %%
person = "a portrait of a person with a big smile, short black hair, clean shaven, no glasses, no hat"
texts, middle = [person, person.replace("smile", "frown")], model.defaults["steps"] // 2
caches, pictures = [], []
for each in texts:
    with dl.capture(model, "joint.*.image.out", steps=[middle]) as one:
        pictures.append(model.generate(each, seed=4))
    caches.append(one)
smiling, frowning = caches
plot_portraits(pictures, ["a big smile", "a big frown"], columns=2)

# %%
sites = [smiling.sites[0], smiling.sites[len(smiling.sites) // 2], smiling.sites[-1]]
far = []  # for each site, how far each patch moved, in units of a patch's norm
for name in sites:
    a, b = (each.to_grid(name, step=middle)[0] for each in (smiling, frowning))  # (rows, columns, width)
    unit = a.norm(dim=-1).mean()
    far.append((a - b).norm(dim=-1) / unit)
    most, of_mean = far[-1].max(), (a - b).mean((0, 1)).norm() / unit
    many = int((far[-1] > most / 4).sum())
    print(f"{name}: largest {most:.2f}, {many} patches above a quarter of it; mean {of_mean:.3f}")

# %%
figure, axes = panels(3, 3, 2.6, 2.4)
top = max(each.max() for each in far)
for ax, name, each in zip(axes, sites, far, strict=True):
    shown = ax.imshow(each, cmap="cividis", vmin=0, vmax=top)
    ax.set(title=name, xticks=[], yticks=[])
figure.colorbar(shown, ax=axes, label="difference, in norms of a patch")
figure

# %% [markdown]
# In portraits, two to four patches differ much, and sixty hardly. The mean over the patches spreads the few over the many:
# its difference (the last number above) is about fifty times smaller than that of the patch that differs most. This is no rounding error that more data would cure. Every token at a smaller width, `reduce="sketch:64"`, costs more memory and keeps the place: of each token's 192 numbers it keeps 64, each a random mixture of all of them (a *sketch*), from which a probe reads nearly as well. The studies that come with ditlens are made like that.
#
# ### Exercise 03.4
# Which patch differs most at `joint.4.image.out`, step 10? Give its token number, as `dl.capture(...,
# tokens={"image": [...]})` takes it. Compute it from `smiling` and `frowning`.

# %% tags=["exercise"]
# portraits only: about its block 4
patch = ...
course.check("03.4", patch)

# %% tags=["solution"]
# portraits only: about its block 4
a, b = (each["joint.4.image.out", 10][0] for each in (smiling, frowning))
patch = int((a - b).norm(dim=-1).argmax())
course.check("03.4", patch)

# %% [markdown]
# ## 7 · From looking to changing
#
# The same addresses serve to change a run. `dl.intervene` takes a function for each site. Begin with a control: put back
# what was there anyway.
#
# **Predict.** Replace the image stream of a block, at all steps, by what was captured there in the same run. What will
# the picture look like? And what if a block is skipped: the first, a middle one, the last?

# %%
with dl.capture(model, "joint.0.image.out", passes=None) as own:
    source = model.generate(person, seed=4)
with dl.intervene(model, {"joint.0.image.out": dl.replace_with(own)}) as session:
    control = model.generate(person, seed=4)
print("changed", sum(session.applied.values()), "times in", model.defaults["steps"], "steps")
print("same picture:", np.array_equal(source, control))

# %%
skipped = {}
for block in sorted({0, last // 2, last}):
    with dl.intervene(model, {f"joint.{block}.image.out": dl.bypass()}):
        skipped[f"block {block} skipped"] = model.generate(person, seed=4)
plot_portraits([source, *skipped.values()], ["unchanged", *skipped], columns=4)

# %%
again = model.generate(person, seed=4)
print("hooks on the model:", dl.hooks_on(model), " same picture as before:", np.array_equal(source, again))

# %% [markdown]
# The control changed the stream at every step and in both passes (so 2 × 20 times), and the picture not at all. Without it you could not
# tell whether a changed picture comes from the change or from the tool. And after the block the model is as it was: no
# weight was touched.
#
# Skip the first block of portraits, and nothing is left that later blocks could work with. Skip another one, and the
# picture is still a portrait, damaged all over. A block that does damage when it is missing is used for something; this
# does not yet say for what.
#
# ## 8 · A study: many pictures, captured once
#
# Two pictures show what can happen. To learn what usually happens, you need hundreds, and their labels. That is a
# *study*: a folder that `ditlens capture` wrote, read from disk a piece at a time. One comes with ditlens.

# %%
# portraits only: the study is of this model
study = dl.open_study("portraits-patches")
print(study)
mouth = study.read("joint.4.image.out", step=7, tokens=43)
print("one patch of all pictures:", tuple(mouth.tensor.shape))

# %%
# portraits only: the study is of this model
for name in ("prompt", "named smile", "smile", "hair_color"):
    print(f"{name:12}", study.column(name)[:2])
study.image(0)

# %% [markdown]
# For each picture the study has its text, what the text named (nothing where it left the choice to the noise), what
# the oracle measured in the picture, and the picture itself: above is the first. Notebooks 05 and 06 live on such studies.
#
# ## What not to conclude
#
# - *Recorded* does not mean *used*. A hidden state may hold much that no later block reads. Notebook 06 tells the two
#   apart.
# - A hidden state belongs to a step. At step 0 it is made of noise, and what you find there was put in by the text.
# - "The same bit for bit" holds for the same call on the same machine. Another batch size, processor or number format
#   rounds differently, with or without a capture.
# - A mean in which you find nothing says nothing about the tokens.
#
# **To discuss.** The image is the same bit for bit with and without the capture. Why is that worth a test in every tool
# of this kind, and what could break it? And: you can afford one step, or one block, or the mean over the tokens. Which
# one do you give up first?
