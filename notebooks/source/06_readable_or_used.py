# %%
import torch

import ditlens as dl
from ditlens import course
from ditlens.views.plots import NotebookFigure, plot_portraits

course.start("06")

# %%
model = course.model()
model

# %% [markdown]
# Where in a diffusion transformer is the smile? Three methods claim to answer, and each answers another question.
#
# | method | you do | a high number means |
# |---|---|---|
# | **probe** | read the smile of the final image off a hidden state | it *can be read* there |
# | **attention** | see how much a patch looks at the word | something *may flow* from the word to the patch |
# | **patching** | put in a hidden state of another run | the final image *changes* with it |
#
# None of the three implies another. We point all of them at one mouth.

# %%
course.diagram("06")

# %% [markdown]
# ## 1 · Readable: a probe by hand
#
# `portraits-patches` is a study that comes with ditlens: 200 portraits, and of each the hidden states of all 64 patches
# as they leave block 4 at step 7 of 10. Beside them stands the smile that the oracle read off the *finished* portrait,
# from −1 (a big frown) to 1 (a big smile).
#
# A probe is a linear regression, here with a *penalty* that keeps its weights small. We fit it on 140 portraits and
# score it on the other 60: R² is 1 for perfect reading, 0 for no more than guessing the mean, and below 0 for worse than
# that.
#
# **Predict.** Patch 43 lies on the mouth. Will you read the smile better from this one patch, or from the mean over all
# 64, which has seen the whole face?

# %%
# portraits only: a study of this model
patches = dl.open_study("portraits-patches")
states = patches["joint.4.image.out", 7].float()  # (portraits, patches, width)
smile = torch.tensor(patches.column("smile"))
states.shape


# %%
def probe_by_hand(x, y, train=140, penalty=10.0):
    """R² on the portraits it was fitted on, and on the others."""
    x = (x - x[:train].mean(0)) / x[:train].std(0)
    y = y - y[:train].mean()
    products = x[:train].T @ x[:train] + penalty * torch.eye(x.shape[1])
    error = y - x @ torch.linalg.solve(products, x[:train].T @ y[:train])
    return [float(1 - error[k].square().mean() / y[k].var()) for k in (slice(train), slice(train, None))]


# %%
# portraits only: about the study above
shuffled = smile[torch.randperm(len(smile), generator=torch.Generator().manual_seed(0))]
rows = {
    "patch 43, the mouth": (states[:, 43], smile),
    "mean of 64 patches": (states.mean(1), smile),
    "patch 43, smiles shuffled": (states[:, 43], shuffled),
}
for name, (x, y) in rows.items():
    fitted, others = probe_by_hand(x, y)
    print(f"{name:27} R² {fitted:5.2f} on its own portraits, {others:5.2f} on others")

# %% [markdown]
# Two lessons in three lines. The mouth's patch knows the smile; in the mean over all patches it nearly drowns. And the
# last line is a warning: with the smiles dealt out at random there is *nothing* to read, and a probe with 64 weights still
# reaches a fair R² on the portraits that it was fitted on. A score counts only on portraits that it has not seen, and
# beside the score of such a *control*.
#
# `dl.probe` does this for every patch. It chooses the penalty by itself, and every portrait is scored by a probe that was
# fitted on other prompts and seeds; so its numbers differ a little from ours, most of all for the mean, where there is
# little to read and much depends on the penalty. Below, the R² of all 64 patches, laid out as in the image.

# %%
# portraits only: a study of this model
by_patch = dl.probe(patches, "smile")
scores = {cell.token: cell.score.value for cell in by_patch.cells}
for row in range(8):
    print(*(f"{scores[8 * row + column]:6.2f}" for column in range(8)))

# %% [markdown]
# ### Exercise 06.1
# From how many of the 64 patches can the smile be read at all, say with R² above 0.1? `by_patch.cells` holds a cell for
# each of the 64 patches and one for their mean, with its `.token` and its `.score.value`.

# %% tags=["exercise"]
# portraits only: about the probe above
how_many = ...
course.check("06.1", how_many)

# %% tags=["solution"]
# portraits only: about the probe above
how_many = sum(cell.score.value > 0.1 for cell in by_patch.cells if cell.token != "mean")
course.check("06.1", how_many)

# %% [markdown]
# ## 2 · Readable compared with what?
#
# The study `portraits` has fewer patches and more places: five blocks, three steps, and what goes *into* the network.
#
# **Predict.** From which block on does the smile stand in the mouth's patch? And in how noisy an image?

# %%
# portraits only: a study of this model
study = dl.open_study("portraits")
found = dl.probe(study, "smile")
found.plot()

# %%
# portraits only: about the probe above
found

# %% [markdown]
# The score rises from block to block up to block 4, and from step to step. The table names its rows by site: `cond` is
# what the figure calls *text alone*, the vector that is made of the whole prompt (and the step) before the first block;
# `joint.0.image.in` are the *noisy latents*. In brackets: the interval that holds the score with a chance of 95 %.
#
# The columns to the right of R² subtract what it would have been anyway:
#
# - **selectivity**: less the score on random labels, as in our third line above;
# - **over latents**: less what the noisy latents show, before any block. At step 7 some of the smile can be seen through
#   the noise (0.30), and the network deserves no credit for that;
# - **over text**: less what the text alone shows.
#
# Two of these columns repeat the R², and that is no mistake. On random labels, and from the text alone (−0.10), the probe
# does no better on new portraits than guessing, which gives 0. A control that comes out at or below 0 counts as 0: to
# subtract −0.10 would *raise* the score, as if a useless control were a merit. So nothing is subtracted: there was nothing
# to memorise, and `cond` does not tell the smile. Only the noisy latents know something of it.
#
# ### Exercise 06.2
# Each of these attributes has a score of 0.9 or more. To one of these scores the network adds next to nothing: whoever
# knows the noisy latents knows it already. Which one: `"smile"`, `"mouth_open"`, `"head_tilt"` or `"skin_tone"`? Probe them, and
# compare `.best().score` with `.best().over_latents`.

# %% tags=["exercise"]
# portraits only: a study of this model
mostly_latents = ...
course.check("06.2", mostly_latents)

# %% tags=["solution"]
# portraits only: a study of this model
best = {name: dl.probe(study, name).best() for name in ("smile", "mouth_open", "head_tilt", "skin_tone")}
for name, cell in best.items():
    print(f"{name:11} R² {cell.score.value:.2f}, over the latents {cell.over_latents.value:.2f}")
mostly_latents = min(best, key=lambda name: best[name].over_latents.value)
course.check("06.2", mostly_latents)

# %% [markdown]
# ### An untrained network
#
# One control is left. Would *any* network of this shape show the smile, one with random weights, too? We noise 120
# portraits of the study to the level of step 7, show them once to each network, and probe the mouth's patch.

# %%
# portraits only: a study of this model
count, sigma = 120, study.sigmas[-1]
clean = model.encode_image(torch.cat([model.prepare(patches.image(k)) for k in range(count)]))
noisy = (1 - sigma) * clean + sigma * model.noise(range(count))
text = model.encode_text(patches.column("prompt")[:count])
for name, network in {"trained": model, "untrained": dl.untrained(model)}.items():
    with dl.capture(network, ["joint.0.image.in", "joint.*.image.out"], tokens={"image": [43]}) as cache:
        network(noisy, sigma, text)
    read = dl.probe(cache, patches.column("smile")[:count], tokens=43)
    scores = [read.best(site=site).score.value for site in read.sites]
    print(f"{name:10} into block 0, out of block 0 to 5:", *(f"{each:.2f}" for each in scores))

# %% [markdown]
# (The latents read less here, 0.1, than in the table above, 0.3: these are 120 portraits in place of 320, and others.)
#
# The untrained network hands on what the noisy latents show and adds nothing; the trained one writes the smile into this
# patch, block by block. So far, so readable.
#
# ## 3 · Looked at: who attends to the word?
#
# In joint attention every patch spreads a total of 1 over all patches and all rows of the text. We capture the share that
# goes to the word *smile*, block by block, early in the run: step 1 of 10, when the image is still mostly noise.
#
# **Predict.** Which patches look at the word? All blocks alike?

# %%
smiling = "a portrait of a young person with a big smile, light skin, clean shaven, red hair"
frowning = smiling.replace("smile", "frown")
setting = {"steps": 10, "guidance": 1}
with dl.capture(model, "joint.*.image.attn.to_text", steps=[1]) as looks:
    model.generate(smiling, seed=0, **setting)
dl.plot_attention(looks, "smile")

# %% [markdown]
# (Notebook 01 drew such maps of a run of 20 steps.) In the middle blocks the mouth, in the columns 3 and 4 of the rows 4
# and 5 (counted from 0), is where the word is looked at most, in an image that shows no mouth yet: the network has a
# place for one before there is one.
#
# But a look is not a take. Attention weights say from where a patch *may* read. What arrives also depends on the values
# that are read, on the gate that scales them, and on all that follows. To know, we have to interfere.
#
# ## 4 · Used: patching by hand
#
# Two prompts, one seed, one word of difference. We run the frowning prompt, and as its text stream enters a block in the
# middle, we put the text stream of the *smiling* run in its place. If what the image takes from the text after that
# point decides the mouth, the portrait will smile.
#
# **Predict.** Will it?

# %%
block = len(model.transformer.transformer_blocks) // 2
site = f"joint.{block}.text.in"
with dl.capture(model, site) as donor:
    happy = model.sample([smiling], [0], **setting)
sad = model.sample([frowning], [0], **setting)
with dl.intervene(model, {site: dl.replace_with(donor)}):
    patched = model.sample([frowning], [0], **setting)
names = ["frown (corrupt)", f"patched from block {block}", "smile (clean)"]
plot_portraits([sad[0], patched[0], happy[0]], names, columns=3)

# %% [markdown]
# The *patching effect*, PE, puts a number to it. In each of the three images the oracle measures the smile. On the
# straight scale on which the corrupt run stands at 0 (nothing came along) and the clean run at 1 (as much as if the whole
# prompt had been exchanged), where does the patched run stand?
#
# ### Exercise 06.3
# Write it as a function of the three measured numbers.


# %% tags=["exercise"]
def patching_effect(patched, clean, corrupt): ...


course.check("06.3", patching_effect)


# %% tags=["solution"]
def patching_effect(patched, clean, corrupt):
    return (patched - corrupt) / (clean - corrupt)


course.check("06.3", patching_effect)

# %%
# portraits only: its oracle measures
low, mid, high = (each["smile"] for each in model.world.measure(torch.cat([sad, patched, happy])))
once = dl.patch(model, smiling, frowning, measure="smile", blocks=[block], steps=1, seeds=[0], controls=False)
print(f"smile: corrupt {low:.2f}, patched {mid:.2f}, clean {high:.2f}")
print(f"PE by hand {(mid - low) / (high - low):.4f}, by dl.patch {once.table()[0, -1]:.4f}")

# %% [markdown]
# By hand and by the library: the same number,
#
# $$\mathrm{PE} = \frac{m(\text{patched}) - m(\text{corrupt})}{m(\text{clean}) - m(\text{corrupt})}$$
#
# with $m$ for what is measured. Now for every block, and for both streams. *Text*: the smiling text goes into the frowning
# run from this block on. *Image*: the smiling run's patches do. `steps=1` asks for one column, in which the whole run is
# patched (by default `dl.patch` also patches the first fifth, two fifths and so on of the run), and `controls=False` leaves
# out the comparison with random hidden states.

# %%
# portraits only: its oracle measures
two = {"steps": 1, "seeds": [0, 1], "controls": False}
from_text = dl.patch(model, smiling, frowning, measure="smile", stream="text", **two)
from_image = dl.patch(model, smiling, frowning, measure="smile", stream="image", **two)
# %% [markdown]
# Put the probe and both patchings over the blocks, side by side with how much the mouth's patch looks at the word.
#
# **Predict.** Which curve will rise, which will fall, and where will they cross?

# %%
# portraits only: puts the results above together
blocks, step = range(6), 7
entering = [f"joint.{k - 1}.image.out" if k else "joint.0.image.in" for k in blocks]
readable = {k: found.best(site=s, step=step).score.value for k, s in enumerate(entering) if s in found.sites}
rows = sorted({row for each in looks.words("smile").values() for row in each})
share = [looks[f"joint.{k}.image.attn.to_text"][:, 0, 43][..., rows].sum(-1).mean().item() for k in blocks]
print("entering block  ", *(f"{k:5}" for k in blocks))
print("readable, R²    ", *(f"{readable[k]:5.2f}" if k in readable else "    -" for k in blocks))
print("looked at, share", *(f"{each:5.2f}" for each in share))
print("used, text PE   ", *(f"{each:5.2f}" for each in from_text.table()[:, -1]))
print("used, image PE  ", *(f"{each:5.2f}" for each in from_image.table()[:, -1]))

# %%
# portraits only: draws the table above
figure = NotebookFigure(figsize=(6.6, 3.0), layout="constrained")
ax = figure.subplots()
ax.plot(readable.keys(), readable.values(), "s:", color="#444", label="readable at the mouth (R², step 7)")
ax.plot(blocks, from_image.table()[:, -1], "o-", color="#D55E00", label="used: image put in here (PE)")
ax.plot(blocks, from_text.table()[:, -1], "o-", color="#0072B2", label="used: text put in from here on (PE)")
ax.bar(blocks, share, color="#bbb", width=0.5, label="mouth looks at the word (share, in this block)")
ax.set(xlabel="entering block", ylabel="R², PE or share", ylim=(-0.1, 1.35), yticks=[0, 0.5, 1])
ax.set_title("One smile, by three methods")
ax.legend(frameon=False, fontsize=8, ncols=2, loc="upper center")
figure

# %% [markdown]
# (`readable` has no number at block 1: the study does not hold what leaves block 0.)
#
# Up to block 2, exchanging the text exchanges the mouth; from block 4 on, it comes too late. The image does the opposite.
# One story: the mouth's patch looks at the word in the middle blocks; there the blue curve falls, because the text has
# been read, and the orange one rises, because from then on the image itself holds the smile. Where they cross, the smile has
# changed streams.
#
# Look at block 4, though: the mouth looks at the word there as much as in block 2, and by then exchanging the text changes
# next to nothing. **Looked at, and not used.**
#
# And the dotted curve runs *ahead* of the orange one. Halfway through, a probe reads a good deal of the smile from the image.
# Yet put exactly these hidden states into the other run, and most of it is overwritten: the blocks that follow read the
# word again, and the word says *frown*. **Readable, and not yet decisive.**
#
# ### Exercise 06.4
# A block's *output* lets a probe read the smile with R² of at least 0.65, yet the clean image put in right there (all
# patches) brings less than half of it. Which block's output is this? Mind the index: what leaves block $k$ enters
# block $k + 1$.

# %% tags=["exercise"]
# portraits only: about the table above
which = ...
course.check("06.4", which)

# %% tags=["solution"]
# portraits only: about the table above
effect = from_image.table()[:, -1]
which = next(k - 1 for k in readable if readable[k] >= 0.65 and effect[k] < 0.5)
course.check("06.4", which)

# %% [markdown]
# ## 5 · Three maps, one mouth
#
# The last figure asks where in the *image*. `dl.locate` probes every patch, averages the attention to the words that
# differ, and puts each patch of the clean run alone into the corrupt one. The patched hidden states are those that the
# probe reads. We ask it for the smile, and for the tilt of the head.
#
# **Predict.** Which map will be the smallest? And will the maps of the tilt look like those of the smile?

# %%
# portraits only: three maps need its oracle and its study; about a quarter of a minute
maps = dl.locate(model, patches, ["smile", "head_tilt"], seeds=[8])
maps.plot()

# %% [markdown]
# The pictures on the left are the corrupt run, the same with *one* patch of the clean run put in (the one that does most),
# and the clean run. In each map the number in the corner belongs to its highest patch. (Another tilt also gave another
# colour of the hair here, which the prompts leave open. The maps look at the tilt alone.)

# %%
# portraits only: about the maps above
for number, name in enumerate(maps.names):
    print(name, maps.best(name))
    for method, values in zip(("readable", "looked at", "used"), maps.maps[:, number], strict=True):
        reach = int((values > values.max() / 2).sum())
        print(f"  {method:10} highest {values.max():.2f}; {reach} of 64 patches reach half of it")

# %% [markdown]
# The smile: three methods, one mouth, and all put the same patch first. But they do not agree on how many more there are. Of
# the patches from which the smile can be read, few change it alone.
#
# The tilt: three methods, three stories. It can be read nearly everywhere. Its words are hardly looked at in these blocks (2
# to 4 are averaged): it is taken from the text earlier. And no single patch brings more than a quarter of it.
#
# ### Exercise 06.5
# So who holds the tilt? Three stories fit the maps. *All share it*: each patch brings its bit, wherever it lies, and half
# of the patches bring about half. *All must agree*: half of the patches bring next to nothing. *A part decides*: some patches
# settle it together, and the others merely know of it. To put in all 64 would decide nothing: behind the last block there
# is only the image, so the PE must be 1. Put in the upper half (patches 0 to 31), then the lower half (32 to 63), as they
# enter block 5, and give both PEs. Write down first what each story predicts.
# `dl.patch(model, measure="head_tilt", stream="image", tokens=[...], ...)` writes its own pairs of prompts; two seeds will do.

# %% tags=["exercise"]
# portraits only: its oracle measures
effects = ...  # [upper, lower]
course.check("06.5", effects)

# %% tags=["solution"]
# portraits only: its oracle measures
effects = []
for half in (range(32), range(32, 64)):
    how = {"tokens": list(half), "blocks": [5], "steps": 1, "seeds": [8, 2], "controls": False}
    effects.append(dl.patch(model, measure="head_tilt", stream="image", **how).table()[0, -1])
course.check("06.5", effects)

# %% [markdown] tags=["teacher"]
# To go on: which set of patches is the smallest that still brings 0.9 of the tilt? The 16 patches in the middle of the
# image bring a quarter or less, all others together the whole of it. With other seeds the single patches differ, and the
# halves hardly do.

# %% [markdown]
# ## What not to conclude
#
# - *The probe reads 0.9, so block 4 computes the smile.* The probe is our reader, not the network's. It shows that the
#   information is there, in a linear form, and no more.
# - *The mouth attends to the word, so it is the word that makes the smile.* In blocks 2 and 3 patching agrees, in block 4 it
#   does not. A large weight may read a value of no consequence, and a small one something that decides.
# - *Not used alone is not unused*, and *readable is not used*: the tilt of the head shows both. One patch is one question,
#   a set of patches another.
# - *PE is 0 from block 4 on, so the text no longer matters.* For the mouth, in this pair of prompts, with a run of ten
#   steps. The page "Readable or used" of the docs (how-to) has attributes that are read from the text later and earlier.
# - Two seeds are two cases. They show that an effect exists, not how large it is on average. The best patch was
#   *chosen* by its score, which flatters it.
#
# **To discuss.** A probe reads a person's age off the hidden states of a model that was never told of age. Has the model
# a notion of age? And if you were to publish one of the three maps only, which one, and what would readers take it to
# mean?
