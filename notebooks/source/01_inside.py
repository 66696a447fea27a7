# %%
import numpy as np
import torch
from torch.nn import functional as F

import ditlens as dl
from ditlens import course
from ditlens.views.plots import NotebookFigure, plot_attention

torch.set_grad_enabled(False)
course.start("01")

# %%
model = course.model()
model

# %% [markdown]
# Notebook 00 treated the model as a box with a text on one side and a picture on the other. Now open it. Everything
# that later notebooks do (decompose, probe, steer, patch) happens at the places that you meet here, so it pays to know
# them by name. (The people are drawn by rules, and their attributes are independent of each other by choice.)
#
# SD3, FLUX and this model are **MMDiTs**: transformers in which text and image travel in two *streams* that meet in
# every block, in one attention over both.

# %%
course.diagram("01")

# %% [markdown]
# How to read it. A *token* is a row of numbers that stands for a piece of the text or of the image; the numbers are its
# *channels*, and how many there are is the *width*. A block does two things to every token, and the words for them are:
#
# - **Attention**: from each token, three matrices make a **query** (what it looks for), a **key** (by which it can be
#   found) and a **value** (what it hands over). The products of one query with all keys go through a softmax. That
#   gives weights, and with these the values are added up. It is done in several **heads** side by side, each with a
#   share of the channels and with weights of its own.
# - **Feed-forward**: a small network of two layers, which works on each token alone.
# - What either of them gives is multiplied by a **gate**, one number for each channel, and added to the stream.
#
# More words are in the [glossary](../docs/reference/glossary.md).
#
# ## 1 · Tokens
#
# A token of the text is a row of the matrix that the text encoders wrote. A token of the image is a *patch*: a small
# square of the latents, all channels together, made into one vector.
#
# **Predict.** The card above says how large the latents are, and a patch is 2 × 2. How many image tokens are there?

# %%
text = "a clean shaven person with a big smile, a crown, short black hair, no glasses"
embedding, latents = model.encode_text(text), model.noise([0])
side = latents.shape[-1] // model.patch
print("latents", tuple(latents.shape), "in patches of", model.patch, "x", model.patch)
print("text tokens ", embedding.tokens.shape[1], " of them not padding:", int(embedding.mask.sum()))
print("image tokens", side * side, " a grid of", side, "x", side)

# %% [markdown]
# Inside the transformer both kinds have the same width, so that they can look at each other. All places at which you
# can read (or change) what flows there have an address, *block × stream × point*:

# %%
dl.sites(model)

# %% [markdown]
# `0:6` means blocks 0 to 5, as in a range of Python; *items* are images that are made at the same time;
# *heads × channels* are the channels of all heads, side by side. Compare the lines of the text with those of the image:
# `text.mlp.out` and `text.out` exist in one block less. We come back to that in section 5.
#
# ### Exercise 01.1
# Stable Diffusion 3.5 draws 1024 × 1024 pixels. Its autoencoder makes latents that are 8 times smaller on each side,
# and its patches are 2 × 2. Its text has 77 rows from two CLIP encoders, which share them, and 256 from T5.
# Among how many **keys** does one patch distribute its attention?

# %% tags=["exercise"]
keys = ...
course.check("01.1", keys)

# %% tags=["solution"]
keys = (1024 // 8 // 2) ** 2 + 77 + 256
course.check("01.1", keys)

# %% [markdown]
# ## 2 · Capture a block, and follow the signal
#
# We make one picture, and keep what passed through one block, in two of its 20 steps. We choose one at two thirds of the
# depth, where text and image have long met; any other would do. Of all blocks, we also keep the attention of patches to the text.

# %%
blocks = model.transformer.transformer_blocks
number = 2 * len(blocks) // 3
place = f"joint.{number}"
inside = ["cond", f"{place}.image.*", f"{place}.text.{{q,k,v}}", "joint.*.image.attn.to_text"]
with dl.capture(model, inside, steps=[2, 10]) as cache:
    picture = model.generate(text, seed=0, steps=20)
cache

# %% [markdown]
# The first thing a block does is to normalise its input, so that every token has mean 0 and standard deviation 1. Then
# it multiplies and shifts all channels. By how much is not a fixed weight: it is computed from the **conditioning
# vector**, which knows the noise level and the pooled text. This is called *adaLN*.
#
# **Predict.** The next cell does it by hand, with the block's own weights. How many vectors as wide as a token must the
# block make of the conditioning vector for one stream? Count in the diagram: attention and feed-forward are each
# modulated (scale and shift) and gated.

# %%
x, cond, block = cache[f"{place}.image.in", 10], cache["cond", 10], blocks[number]
width = x.shape[-1]
parts = block.norm1.linear(F.silu(cond)).view(1, -1, width).split(1, dim=1)
print(len(parts), "vectors of", width, "numbers")
shift, scale, gate = parts[:3]  # for the attention
shift_2, scale_2, gate_2 = parts[3:6]  # for the feed-forward
modulated = F.layer_norm(x, (width,), eps=1e-6) * (1 + scale) + shift
theirs = block.norm1(x, emb=cond.reshape(1, width))[0]
print(f"largest difference from the library's own: {(modulated - theirs).abs().max():.1e}")

# %% [markdown]
# At the end, what attention and feed-forward gave is multiplied by the two *gates* and added to the stream.
#
# **Predict.** What would leave the block if both gates were 0?

# %%
middle = x + gate * cache[f"{place}.image.attn.out", 10]
out = middle + gate_2 * cache[f"{place}.image.mlp.out", 10]
error = (out - cache[f"{place}.image.out", 10]).abs().max()
print(f"what leaves the block, by hand: off by {error:.1e}, where values reach {out.abs().max():.0f}")

# %% [markdown]
# With gates of 0, what came in would leave as it is. A block never replaces a stream. It adds to it. That is why one can speak of *the* image stream from the first block
# to the last, and why directions can be added to it (notebook 07).
#
# **Predict.** The conditioning vector is the only way by which the *pooled* text gets in. Exchange "smile" for "frown".
# Does the vector change much, compared with what the noise level does to it? Does its change depend on the noise level?

# %%
# SD3 only: FLUX also puts the guidance into the vector
other, embed = model.encode_text(text.replace("smile", "frown")), model.transformer.time_text_embed
for sigma in (1.0, 0.5, 0.1):
    timesteps = torch.tensor([1000 * sigma, 1000 * sigma, 1000.0], device=model.device)
    pooled = torch.cat([embedding.pooled, other.pooled, embedding.pooled]).to(model.dtype)
    here, other_word, pure_noise = embed(timesteps, pooled).float()
    by_word, by_noise = (other_word - here).norm(), (pure_noise - here).norm()
    print(f"noise level {sigma}: moved by the word {by_word:.3f}, by the noise level since 1 {by_noise:.3f}")

# %% [markdown]
# The word moves it by the same at every noise level, because the vector is a sum: something of the noise level plus
# something of the pooled text. In the portraits model the word's share is tiny beside that of the noise level. That is
# the result of notebook 00, seen from inside: the pooled text alone could not turn a smile into a frown.
#
# ## 3 · One attention over both streams
#
# Each stream makes queries, keys and values with weights of its own. Then they are joined, and from there on the
# softmax does not know which key is a word and which a patch.
#
# **Predict.** A row of the attention sums to 1. How much of it does a patch spend on the text, on average?

# %%
heads = model.transformer.config.num_attention_heads
sites = [f"{place}.{point}" for point in ("image.q", "text.q", "image.k", "text.k")]
q_image, q_text, k_image, k_text = (cache[site, 10][0].unflatten(-1, (heads, -1)).float() for site in sites)
print("patches, heads, channels of one head:", tuple(q_image.shape))

queries, keys_of_both = torch.cat([q_image, q_text]), torch.cat([k_image, k_text])
scores = torch.einsum("qhc,khc->hqk", queries, keys_of_both) / queries.shape[-1] ** 0.5
attention = scores.softmax(-1).mean(0).cpu()  # the mean of the heads

patches = len(k_image)
difference = attention[:patches, patches:] - cache[f"{place}.image.attn.to_text", 10][0].cpu()
print(f"patches to text, by hand: off by {difference.abs().max():.1e} from what dl.capture recorded")

# %%
real = cache.mask()[0].cpu()
to_text = attention[:patches, patches:].mean(0)
print(f"a patch spends {to_text.sum():.2f} on the text: {to_text[real].sum():.2f} on its words and marks,")
print(f"and {to_text[~real].sum():.2f} on {int((~real).sum())} rows of padding")

# %% [markdown]
# Two routes, one number: what `dl.capture` calls `image.attn.to_text` is the upper right part of a larger matrix. Here
# is all of it; the lines separate patches from text.

# %%
figure = NotebookFigure(figsize=(5.5, 4.4), layout="constrained")
ax = figure.subplots()
shown = ax.imshow(attention.sqrt(), cmap="cividis", interpolation="nearest")
ax.axhline(patches - 0.5, color="white")
ax.axvline(patches - 0.5, color="white")
ax.set(xlabel="keys: patches, then text", ylabel="queries: patches, then text")
ax.set_title(f"block {number}, step 10, mean of {heads} heads", fontsize=10)
figure.colorbar(shown, label="square root of attention")
figure

# %% [markdown]
# (The colours show the square root, so that small shares are seen beside large ones.) Patches read text rows (upper
# right), and text rows read patches (lower left): the text stream changes with the picture. So the row of "smile", in
# which the encoder had already mixed the words before it, soon knows something of the picture, too.
#
# The rows of padding are little read (at the far right). But they do read: below, they give the patches about as much as
# the words do, and the stripes say that most of them choose much the same patches.
#
# **The order differs.** SD3 joins patches first, then text; FLUX joins text first, then patches. For the result it makes
# no difference, since a softmax and a sum do not care about order. For your indices it does: column 12 is a patch here
# and a word there, and nothing raises an error. Names such as `image.attn.to_text` save you from that.
#
# ### Exercise 01.2
# Write the function: the attention of queries to the text, mean over heads. All arguments have the shape
# (tokens, heads, channels of one head).


# %% tags=["exercise"]
def attention_to_text(q, k_image, k_text):
    return ...  # (queries, text tokens)


course.check("01.2", attention_to_text)


# %% tags=["solution"]
def attention_to_text(q, k_image, k_text):
    scores = torch.einsum("qhc,khc->hqk", q, torch.cat([k_image, k_text])) / q.shape[-1] ** 0.5
    return scores.softmax(-1).mean(0)[:, len(k_image) :]


course.check("01.2", attention_to_text)

# %% [markdown]
# ## 4 · Which patches look at a word?
#
# Take one column of the matrix, the one of "smile", and lay it on the grid of patches. `cache.words` says which rows of
# the text a word has. It answers for each tokenizer (what cuts a text into pieces), because each encoder has its own. The two CLIP
# encoders share their rows, side by side in the channels, so both say the same, and either will do.

# %%
found = cache.words("smile")
print(found)
column = next(iter(found.values()))[0]  # of the first tokenizer, the first row
for step in (2, 10):
    maps = [cache.to_grid(f"joint.{n}.image.attn.to_text", step=step)[0] for n in range(len(blocks))]
    most = [grid[..., column].max().item() for grid in maps]  # grid: (rows, columns, text tokens)
    print(f"step {step:2}, noise level {model.sigmas(20)[step]:.2f}, blocks from 0:", np.round(most, 2))

# %% [markdown]
# These are the largest shares that any patch gives to the word, in each block.
#
# **Predict.** Where in the picture are they? And why are they larger at the noisier step?

# %%
plot_attention(cache, "smile", image=picture)

# %% [markdown]
# In the portraits model, the mouth looks at its word, most clearly in the middle blocks, and more at step 2 than at
# step 10. The picture at the left is the finished one. At step 2, with noise level 0.89, the patch cannot see a mouth
# yet. It looks up what should become one *here*.
#
# The first block shows little, although it is nearest to the text: its patches know hardly more than their place and
# their noise. So "the" attention map of a word does not exist. There is one for every block, step and head, and the
# average over all of them would show a faint spot.
#
# ### Exercise 01.3
# Your turn with "crown". In **block 2 at step 2**, which patch looks at the word most? Give its row (from the top) and
# column (from the left), counted from 0.

# %% tags=["exercise"]
# portraits only: about its grid of 8 x 8 patches
grid = cache.to_grid("joint.2.image.attn.to_text", step=2)[0]  # (rows, columns, text tokens)
patch = ...
course.check("01.3", patch)

# %% tags=["solution"]
# portraits only: about its grid of 8 x 8 patches
grid = cache.to_grid("joint.2.image.attn.to_text", step=2)[0]  # (rows, columns, text tokens)
column = cache.words("crown")["tokenizer"][0]
patch = divmod(int(grid[..., column].argmax()), grid.shape[1])
course.check("01.3", patch)

# %% [markdown]
# ## 5 · The last block
#
# The picture is read off the image stream. After the last block nobody reads the text stream, so SD3 does not compute
# its output there. It does compute queries, keys and values of the text, as in every block.
#
# ### Exercise 01.4
# Which of the three does the picture depend on, in the last block? **Predict** first. Then set each of them to zero in
# turn and look; the cell does it for one.

# %% tags=["exercise"]
# SD3 only: in FLUX other blocks follow, which read the text
point = "q"
with dl.intervene(model, {f"joint.-1.text.{point}": dl.ablate("zero")}):
    changed = model.generate(text, seed=0, steps=20)
off = np.abs(np.asarray(changed, float) - np.asarray(picture, float)).mean()
print(point, f"moves pixels by {off:.2f} of 255, on average")
matter = ...  # a list, e.g. ["q", "v"]
course.check("01.4", matter)

# %% tags=["solution"]
# SD3 only: in FLUX other blocks follow, which read the text
matter = []
for point in "qkv":
    with dl.intervene(model, {f"joint.-1.text.{point}": dl.ablate("zero")}):
        changed = model.generate(text, seed=0, steps=20)
    if changed.tobytes() != picture.tobytes():
        matter.append(point)
course.check("01.4", matter)

# %% [markdown]
# You found a piece of the model that computes something for nobody. Such pieces are good test cases: a method that says
# a site is important, where nothing can depend on it, is wrong.
#
# In FLUX it is different. Behind its joint blocks come *single* blocks, in which text and patches form one sequence with
# one set of weights, so there the text of the last joint block is read on.
#
# ## What not to conclude
#
# - A map of attention shows where a patch *looked*, not what it did with what it saw. The value behind the key may be
#   small, the gate may be near zero, later blocks may undo it. Whether a place is *used* is a causal question
#   (notebook 06).
# - A word is not only in its own row. The encoders have mixed the words before the transformer sees them, and the text
#   stream goes on mixing. Attention to the row of "smile" is not all attention to the smile.
# - A mean over heads hides heads that differ, as a mean over patches hides the mouth.
# - These numbers are of one picture of a small model with 64 patches. In a large model a word's share is spread over
#   thousands of patches, and some keys collect attention that means nothing.
#
# **To discuss.** A patch at the mouth gives an eighth of its attention to the word smile. Does the smile come from
# there? And rows of padding take part in the softmax: should they be masked?
