# %%
import numpy as np
import torch

import ditlens as dl
from ditlens import course
from ditlens.views.plots import panels

course.start("04")

# %% [markdown]
# A text enters the model as a matrix, one row for each token. It is tempting to think of the row of *smile* as the place
# where the smile is kept. This notebook takes the rows apart: what is in them, what the neighbours know, and what the
# blocks do with them.

# %%
course.diagram("04")

# %% [markdown]
# ## 1 · The rows of a text
#
# **Predict.** How many rows does the text below take, and how many does the model see?

# %%
model = course.model()
text = "a portrait of a person with a big smile, long red hair and a green shirt"
reader = model.row_tokenizer
pieces = reader.convert_ids_to_tokens(reader(text).input_ids)
names = [piece.replace("</w>", "").replace("oftext", "").strip("<|>▁") for piece in pieces]
embedding = model.encode_text(text)
print(len(names), "rows:", *names)
print("the model sees", embedding.tokens.shape[1], "rows;", int(embedding.mask.sum()), "are no padding")
print("smile is in", dl.words(model, text, "smile"))
print("a big smile is in", dl.words(model, text, "a big smile"))

# %% [markdown]
# The start token, words, a comma and the end token come first; the rest is *padding*, which fills the matrix to a fixed
# length. `dl.words` finds the rows of a word, for each encoder that writes rows. Portraits has two, both of the kind
# called CLIP: each writes half of the channels of every row, so a word has the same row in both, and either number will do.
#
# ## 2 · One changed word, in the encoder
#
# Change *long* to *short*, nothing else, and compare the two matrices row by row.
#
# **Predict.** Which bars will be zero? Will *red*, *hair* and *shirt* notice? Will the padding?

# %%
pair = model.encode_text([text, text.replace("long", "short")])
a, b = pair.tokens.float()
change = (a - b).norm(dim=-1) / a.norm(dim=-1)
figure, (ax,) = panels(1, 1, 2.8, 0)
count = len(names) + 6  # of the padding, six rows; the others look like them
ax.bar(range(count), change[:count], color=np.where(pair.mask[0, :count], "#0072B2", "#AAAAAA"))
ax.set_xticks(range(count), names + ["padding"] * 6, rotation=60, ha="right", rotation_mode="anchor")
ax.set(ylabel="|difference| / |row|", title="long → short: how much each row changes (grey: padding)")
figure

# %% [markdown]
# With portraits every row before the word is exactly as it was, and every row after it has changed, to the last row of
# padding. CLIP, the text encoder, reads from left to right: each row is made of the rows before it. The neighbours do not
# all learn alike. What stands next to a word need not be what has to do with it.
#
# This is why an edit must not be judged by "the row of the word": the word is in all later rows. And when you insert a
# word, every later row moves by one place and is compared with another word's row.
#
# ### Exercise 04.1
# Put `"red"`, `"hair"`, `"shirt"`, `"portrait"` in the order of how much their rows learn of *long*, most first.

# %% tags=["exercise"]
# portraits only: about its encoder
order = ...
course.check("04.1", order)

# %% tags=["solution"]
# portraits only: about its encoder
order = sorted(["red", "hair", "shirt", "portrait"], key=lambda name: -change[names.index(name)])
course.check("04.1", order)

# %% [markdown]
# ### Exercise 04.2
# A paper reports the norm of the difference of two text matrices. Which share of the *squared* norm of `pair.tokens[0] -
# pair.tokens[1]` lies in padding? `pair.mask[0]` is True at the rows that are no padding.

# %% tags=["exercise"]
# portraits only: about its padding
in_padding = ...
course.check("04.2", in_padding)

# %% tags=["solution"]
# portraits only: about its padding
squared = (pair.tokens[0] - pair.tokens[1]).square().sum(-1)
in_padding = squared[~pair.mask[0]].sum() / squared.sum()
course.check("04.2", in_padding)

# %% [markdown]
# ## 3 · The same word, through the blocks
#
# In a joint block every row attends to every other one, in both directions. One evaluation of the model at pure noise is
# enough to see what the blocks do.
#
# **Predict.** Will the earlier rows learn of the word now? Will the whole text level out, so that after the last block
# every row knows about as much?

# %%
places = ["joint.0.text.in", "joint.*.text.out"]
with dl.capture(model, places, steps=0) as cache:
    model(model.noise([0, 0]), 1.0, pair)
far = torch.stack([(cache[name, 0][0] - cache[name, 0][1]).norm(dim=-1) for name in cache.sites])
size = torch.stack([cache[name, 0][0].norm(dim=-1) for name in cache.sites])
figure, (ax,) = panels(1, 1, 3.2, 0)
shown = ax.imshow((far / size)[:, : len(names)], cmap="cividis", vmin=0, aspect="auto")
ax.set_xticks(range(len(names)), names, rotation=60, ha="right", rotation_mode="anchor")
ax.set_yticks(range(len(cache.sites)), [name.removeprefix("joint.") for name in cache.sites])
figure.colorbar(shown, label="|difference| / |row|")
figure

# %% [markdown]
# They learn, but little. In portraits the row of the word stays the one that differs most, and up to block 3 by far. *Hair*
# comes second, until *red* and *green* have caught up with it in block 3. The earlier rows, exactly equal at first, differ
# by a few hundredths in the first blocks and by about a tenth later (*big*: 0.16 after block 3). Nothing levels out. The
# first block even leaves many later rows (*red*, *and*, *a*, *green*, the end) less different than the encoder made them;
# only *long*, *hair* and *shirt* go the other way.
#
# What enters the first block is the same at every step, but only there. The text stream reads the image, and the image
# changes.

# %%
with dl.capture(model, places) as steps:
    model.generate(text, seed=0)
for name in steps.sites:
    rows = steps[name][:, 0, : len(names)]
    moved = (rows - rows[0]).norm(dim=-1).mean(1) / rows[0].norm(dim=-1).mean()
    print(
        f"{name:17} moved since step 0:",
        *(f"step {k}: {moved[k]:.2f}" for k in (1, len(moved) // 4, len(moved) - 1)),
    )

# %% [markdown]
# So "the hidden state of *smile*" needs a block **and** a step, and a seed, too. A plain vector per word exists before the
# first block only.
#
# ## 4 · Principal components of the words
#
# Now look at all rows of one text at once. Principal components are the directions along which rows differ most.
#
# **Predict.** On a map of the first two components, which words will be neighbours? What will the first component be
# about?

# %%
view = dl.PCA(2, joint=False).fit(cache)
blocks = sorted({0, model.transformer.config.num_layers - 2})  # the last one has no text output
dl.plot_words(view, cache.select("joint.*.text.out"), step=0, block=blocks)

# %% [markdown]
# In portraits, words that say something about the picture (*smile*, *hair*, *shirt*, *long*, *red*, *green*) lie on one
# side after block 0, words that do not (*a*, *of*, *portrait*) on the other (*big* lies between), and one component explains nearly all of it.
# (A dot without a word had no room for it; in block 4 the words that say little lie in one heap. Grey dots are the start,
# the comma and the end.) That looks like a discovery: the model sorts words by importance! Before you name a component, ask what else it could be. A simple
# candidate is the norm of the rows.

# %%
telling = ("smile", "long", "red", "hair", "green", "shirt")
figure, (ax,) = panels(1, 1, 3.2, 0)
for row, name in enumerate(names):
    ax.plot(size[:, row], color="#0072B2" if name in telling else "#AAAAAA", lw=1.5)
ax.set_xticks(range(len(size)), [name.removeprefix("joint.") for name in cache.sites])
ax.set(ylabel="norm of the row", title="Length of each row; blue: " + ", ".join(telling))
ax.set_yscale("log")
figure

# %% [markdown]
# ### Exercise 04.3
# At `joint.0.text.out`, what is the correlation between the first component and the norm of the rows? Take the first
# `len(names)` rows of `cache["joint.0.text.out", 0][0]`; `view.project(rows, "joint.0.text.out")` gives their
# coordinates.

# %% tags=["exercise"]
# portraits only: about its first block
correlation = ...
course.check("04.3", correlation)

# %% tags=["solution"]
# portraits only: about its first block
rows = cache["joint.0.text.out", 0][0, : len(names)]
correlation = np.corrcoef(view.project(rows, "joint.0.text.out")[:, 0], rows.norm(dim=-1))[0, 1]
course.check("04.3", correlation)

# %% [markdown]
# In portraits, block 0 makes the rows of *a* and *of* long at once and leaves the telling words short; these grow block by
# block, until all are of about one length. Every block begins with a layer norm, which divides a row by its size, so length
# itself is hardly read, and what is added to a long row counts for less. The words *are* sorted, but the variance that
# the component "explains" is mostly length. Smaller components may be what the picture hangs on.
#
# ## 5 · One word's row over many texts
#
# A single text mixes two questions: how words differ, and how the same word's meaning differs. Hold the place and vary
# the text: 60 texts with four levels of smile, five kinds of hair and three shirts, all of the same length, so that a row
# number means the same in all of them. (The figure will say *60 images*, one for each text: a capture counts what the model
# was asked to draw, here one evaluation of each.)
#
# **Predict.** Of the row of the word *smile* or *frown*: will the four levels be ordered along one component? Will the
# same hold for *big* or *slight*, the row before? And for the end token, which comes after everything?

# %%
# portraits only: the levels are words of its world
levels = ["big frown", "slight frown", "slight smile", "big smile"]
hairs = ["short black", "long red", "short grey", "curly brown", "long blond"]
kinds = [(level, hair, shirt) for hair in hairs for shirt in ("green", "red", "blue") for level in levels]
texts = [
    f"a portrait of a person with {hair} hair, a {level} and a {shirt} shirt" for level, hair, shirt in kinds
]
many = model.encode_text(texts)
with dl.capture(model, places, steps=0) as sixty:
    model(model.noise([0] * len(texts)), 1.0, many)
print(sixty.items[0].prompt, "...", sixty.items[-1].prompt, sep="\n")

# %%
# portraits only: about the 60 texts
word, end = dl.words(model, texts[0], "frown")["tokenizer"][0], int(many.mask[0].sum()) - 1
level = [each for each, _, _ in kinds]
ordered = [f"{levels.index(each) + 1} {each}" for each in level]  # so that the legend has them in order
dl.PCA(2, tokens=[word], joint=False).fit(sixty.select("joint.*.text.out", block=[0, 4])).plot(color=ordered)

# %% [markdown]
# In its own row the level is nearly everything: four tight heaps. After block 0 they come in the order of the smile along
# the first component; in block 4 smiles and frowns are still far apart, but the two frowns have changed places. Hair and shirt, which come before and after, hardly show.
#
# "Nearly everything" is a number: the share of the rows' variance that lies between the levels.
#
# ### Exercise 04.4
# Write `explained(rows, levels)`. `rows` is an array (n, width), `levels` a list of n names. Return the share, from 0 to
# 1, of the variance of the rows (all channels together) that lies between the mean rows of the levels, each level
# weighted by its number of rows.


# %% tags=["exercise"]
def explained(rows, levels):
    return ...  # begin with rows - rows.mean(0), and with the mean row of each level


course.check("04.4", explained)


# %% tags=["solution"]
def explained(rows, levels):
    centred = rows - rows.mean(0)
    means = np.stack([centred[np.array(levels) == each].mean(0) for each in levels])
    return (means**2).sum() / (centred**2).sum()


course.check("04.4", explained)

# %% [markdown]
# The same share by another route is a regression on the levels: the best guess of a row that knows nothing but its level
# is the mean row of the level. In the table below, the number of `joint.0.text.out` under *word* is what your function
# should give for `explained(sixty["joint.0.text.out", 0][:, word].numpy(), level)`. Try it.


# %%
# portraits only: about the 60 texts
def share(place, site, labels):
    rows = sixty[site, 0][:, place].numpy()
    hot = (np.array(labels)[:, None] == np.unique(labels)).astype(float)  # (texts, levels)
    centred = rows - rows.mean(0)
    fitted = hot @ np.linalg.lstsq(hot, centred, rcond=None)[0]  # for each text, the mean of its level
    return (fitted**2).sum() / (centred**2).sum()


# %%
# portraits only: about the 60 texts
mouth = [each.split()[1] for each in level]  # smile or frown
for site in sixty.sites:
    own, before, last = (share(place, site, level) for place in (word, word - 1, end))
    print(f"{site:17} word {own:.2f}   the row before {before:.2f}   end {last:.2f}", end="   ")
    print(f"smile or frown in the row before {share(word - 1, site, mouth):.2f}")

# %% [markdown]
# The row of the word is the level, and little else, in every block. The row before it, *big* or *slight*, knows a part of
# the level, its own half. Of *smile* or *frown* it knows nothing when it enters, since it was read before that word came,
# and a few hundredths afterwards, though attention could have told it. The end token comes after everything and knows of
# everything, so any single thing is a small share of it.
#
# ## 6 · What the neighbours learn: can it be told?
#
# A small share is not nothing. `dl.leakage` trains a classifier to tell the smile from the rows of the *hat* phrase, over
# sentences that it has not seen, with the smile named before the hat or after it.
#
# **Predict.** In the embedding, before any block: is the accuracy 0.5 (chance) or 1, for each order?

# %%
# portraits only: its world has the levels
leak = dl.leakage(model, "smile", "hat", carriers=8, stream="text", steps=0, sampling_steps=1)
for order in ("before", "after"):
    for block in ("embedding", *leak.blocks):
        row = leak.select(order=order, block=block)[0]
        print(
            f"smile {order:6} hat, {block:9}: accuracy {row.leak['value']:.2f}, size {row.size['value']:.2f}"
        )

# %% [markdown]
# Named before the hat, the smile can be told from the hat's rows without a single mistake, by the encoder's doing alone.
# Named after it, accuracy is at chance: the rows were finished when the smile came. Of the blocks, the *attention outputs*
# of these rows are classified: what each block has them collect from all others. There both orders are alike: a trace comes
# through, most in block 0 and in block 5 (whose output of the text nothing reads any more), and least in block 2, where
# 0.53 and 0.56, each of 32 rows, are hardly to be told from chance.
#
# Now read the *size*: how far the smile moves these rows, as a share of how far the hat does. It is about a tenth in the
# embedding, with an accuracy of 1; in block 0 it is twice that, with an accuracy of 0.81. A perfect classifier needs only a clean trace. An accuracy tells you *whether*, never
# *how much*.
#
# ### Exercise 04.5
# Write two texts that differ in the colour of the hair, by one word, and in both of which the row of *smile* is exactly
# the same when it enters the first block.

# %% tags=["exercise"]
two_texts = ...  # ("first text", "second text")
course.check("04.5", two_texts)

# %% tags=["solution"]
two_texts = ("a portrait with a smile and red hair", "a portrait with a smile and black hair")
course.check("04.5", two_texts)

# %% [markdown]
# ## What not to conclude
#
# - That a row holds a word's meaning does not show that the picture is made from it. Later rows hold copies. What happens
#   when a row is replaced is a question for notebook 06.
# - Variance is size. A component that explains 89 % can be the length of rows, and one that explains 2 % can decide the
#   picture.
# - The neighbours' small shares are those of this model, whose sentences are short and whose attributes were drawn
#   independently. An encoder trained on the web knows that old goes with grey.
# - Reading from left to right is a property of CLIP. T5, the other encoder of SD3 and FLUX, reads in both directions:
#   there, no row is safe.
#
# **To discuss.** The padding changes when a word changes, and the image attends to it. Is it still padding? And: a
# classifier tells the smile from the row of the hat. Does the meaning of the smile leak into the hat?
