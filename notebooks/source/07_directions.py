# %%
from dataclasses import replace

import torch

import ditlens as dl
from ditlens import course
from ditlens.views.plots import plot_portraits

course.start("07")

# %%
model = course.model()
model

# %% [markdown]
# Every edit in this course is a step along a *direction*: a vector, and an amount. It sounds simple, and four questions
# hide in it. Where does the vector act? How long is it, and in which unit? What lies beyond both ends? And how would you
# know that it is *your* direction that did it?

# %%
course.diagram("07")

# %% [markdown]
# ## 1 · The line, by hand
#
# Two texts that differ in one word give two embeddings $c_0$ and $c_1$. Their difference $n = c_1 - c_0$ is a direction,
# and $c_0 + \alpha n$ are the points on the line through both.
#
# **Predict.** A text halfway between *frown* and *smile* is no text at all: no words give this embedding. What will the
# model draw?

# %%
frown = "a portrait of a person with a frown, no hat, clean shaven"
smile = frown.replace("frown", "smile")
c0, c1 = model.encode_text(frown), model.encode_text(smile)


def draw(text, seeds=(0,), steps=10):
    """Images of an embedding."""
    latents = dl.flow.sample(model, model.noise(seeds), model.sigmas(steps), text.expand(len(seeds)))
    return model.decode(latents)


# %%
halfway = c0.lerp(c1, 0.5)  # tokens + 0.5 n, and the pooled vector likewise
plot_portraits([draw(c0)[0], draw(halfway)[0], draw(c1)[0]], ["α = 0", "α = 0.5", "α = 1"], columns=3)

# %% [markdown]
# Something in between, with a mouth of its own that neither text asked for.
#
# `dl.direction` makes the same difference, and `dl.steer` adds it. Two routes, one image:

# %%
n = replace(dl.direction(model, frown, smile), name="frown to smile")
assert torch.allclose(n.step, (c1.tokens - c0.tokens)[0], atol=1e-6)
steered = dl.steer(model, n, 0.5, prompts=frown, seeds=0, sampling_steps=10, guidance=1)
off = (model.prepare(steered.images[0][list(steered.amounts).index(0.5)]) - draw(halfway)).abs().max()
print(f"largest difference of a pixel: {float(off):.4f} (half a step of 8 bits is {0.5 / 255:.4f}: rounding)")
n

# %% [markdown]
# ## 2 · Where is the direction?
#
# One word was exchanged, so one row of the token matrix should differ.
#
# **Predict.** How many rows of $n$ are not zero?

# %%
length = n.vector.norm(dim=-1)
rows = int(c0.real_tokens().sum())
word = sorted({row for found in dl.words(model, frown, "frown").values() for row in found})
print("rows of the text 0 to", rows - 1, "| the word is row", word)
print("|n| row by row:", *(f"{each:.0f}" for each in length.tolist()))

# %% [markdown]
# Nothing before the word, since these text encoders read from left to right. But *every* row after it has changed: the
# later words, and all of the padding, which has read the whole text.
#
# ### Exercise 07.1
# The squared length of $n$ is the sum over all rows of $|n_i|^2$. Which share of it lies in padding, the rows from `rows`
# on? Compute it.

# %% tags=["exercise"]
# portraits only: about the text encoders of this model
share = ...
course.check("07.1", share)

# %% tags=["solution"]
# portraits only: about the text encoders of this model
share = length[rows:].square().sum() / length.square().sum()
course.check("07.1", share)

# %% [markdown]
# So a norm, or a cosine, of two text embeddings is above all one of their padding. Does the *model* care as much? We let
# $n$ act on some rows only, and measure.
#
# **Predict.** The word's one row, the words after it, the padding, or the pooled vector: which of them alone gives the
# smile?

# %%
# portraits only: its oracle measures
place = torch.arange(len(length))
parts = {
    "all": place >= 0,
    "word": place == word[0],
    "after": (place > word[0]) & (place < rows),
    "padding": place >= rows,
    "pooled": place < 0,
}
only = {name: replace(n, vector=n.vector * keep[:, None]) for name, keep in parts.items()}
for name in ("word", "after", "padding"):
    only[name] = replace(only[name], pooled=None)

# %%
# portraits only: its oracle measures
setting = {"prompts": frown, "seeds": [0, 1, 2, 3], "sampling_steps": 10, "guidance": 1}
moved = {}
for name, each in only.items():
    result = dl.steer(model, each, 1.0, **setting)
    before, after = torch.tensor(result.values("smile")).mean(0)
    moved[name] = float(after - before)
    print(
        f"{name:8} smile {before:5.2f} -> {after:5.2f}   drift {torch.tensor(result.drift)[:, 1].mean():.3f}"
    )

# %% [markdown]
# ### Exercise 07.2
# Which part does by itself more than half of what `all` does: `"word"`, `"after"`, `"padding"` or `"pooled"`?

# %% tags=["exercise"]
# portraits only: about the table above
part = ...
course.check("07.2", part)

# %% tags=["solution"]
# portraits only: about the table above
part = next(name for name in moved if name != "all" and moved[name] > moved["all"] / 2)
course.check("07.2", part)

# %% [markdown]
# A *token-local* edit, one row of 64, does what the whole matrix does. The large rest of $n$ does nothing for the
# smile; it only lets other things drift a little.
# **How long a vector is says nothing of how much it does.**
#
# ## 3 · A line or an arc?
#
# The straight line between two vectors of equal length passes nearer to the origin. Some hold that the length of an
# embedding means something, and that one should go along an arc: *slerp*, spherical interpolation.
#
# For two vectors $a$ and $b$ with the angle $\theta$ between them, and equal lengths,
#
# $$\mathrm{slerp}(a, b, t) = \frac{\sin((1 - t)\,\theta)}{\sin\theta}\,a + \frac{\sin(t\,\theta)}{\sin\theta}\,b$$
#
# ### Exercise 07.3
# Write it, for two torch vectors. The angle belongs to their *directions*, so normalise them before you take the
# cosine.


# %% tags=["exercise"]
def slerp(a, b, t): ...


course.check("07.3", slerp)


# %% tags=["solution"]
def slerp(a, b, t):
    angle = torch.arccos(torch.dot(a / a.norm(), b / b.norm()))
    return (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)


course.check("07.3", slerp)

# %%
a, b = c0.tokens[0, word[0]], c1.tokens[0, word[0]]
angle = torch.rad2deg(torch.arccos(torch.cosine_similarity(a, b, dim=0)))
print(f"lengths {a.norm():.1f} and {b.norm():.1f}, {angle:.0f} degrees apart")
print(f"halfway on the line the length is {((a + b) / 2).norm():.1f}")

# %% [markdown]
# **Predict.** The vectors of the two words are far apart, and halfway on the line some of their length is gone. Will the
# line and the arc give different portraits? Where most: between the two texts, or beyond them?

# %%
# portraits only: its oracle measures
amounts = [-1, -0.5, 0, 0.25, 0.5, 0.75, 1, 1.5, 2]
one = setting | {"seeds": [0, 1]}
ways = {path: dl.steer(model, n, amounts, path=path, **one) for path in ("line", "slerp")}
print("amount", *(f"{each:6.2f}" for each in ways["line"].amounts))
for path, result in ways.items():
    print(f"{path:6}", *(f"{each:6.2f}" for each in torch.tensor(result.values("smile")).mean(0)))
ways["line"].plot()

# %% [markdown]
# The two ways can hardly be told apart. One reason: each block begins by normalising every row, so much of what the arc
# preserves, the length, is taken away before attention reads the row. Whatever one believes about the geometry of
# embeddings, in this model and for this word it makes no difference that we could measure.
#
# ## 4 · Beyond the ends
#
# - **Beyond 1** the smile grows on a little, and then no more. The degree is a coordinate in the space of texts. That
#   twice the way gives twice the smile is a hope.
# - **Below 0** we asked for *less smile than a frown*, and got the frown. A negative degree has room only where the
#   attribute has: start from a neutral face, and −1 goes somewhere.
#
# And mind the **unit**. Here 1 is *from this text to that one*, so "a slight smile → a big smile" has another 1 than "a
# frown → a smile". Amounts along different directions do not compare.
#
# ## 5 · A direction at a site
#
# A direction need not come from texts. Take portraits with much and with little smile, and subtract the mean hidden
# states. The unit is then *one standard deviation* of the hidden states along the direction: how far portraits typically
# differ.
#
# **Predict.** Where should it be added: at all 64 patches, or at a few of them?

# %%
# portraits only: its oracle says how much each portrait smiles
site, made = "joint.3.image.out", dl.design(model.world, 64, seed=1)
with dl.capture(model, site, steps=[3, 5, 7]) as states:
    portraits = model.sample(made.prompts, made.seeds, steps=8, guidance=1)
smiles = [each["smile"] for each in model.world.measure(portraits)]
local = dl.direction(states, "smile", site=site, values=smiles)
everywhere = dl.direction(states, "smile", site=site, values=smiles, patches=None)
local

# %%
# portraits only: its oracle measures
person = "a portrait of an old person, clean shaven, no hat"
setting = {"prompts": person, "seeds": [0, 1], "sampling_steps": 8, "guidance": 1}
tried = {"local": local, **{f"random {k}": local.random(k) for k in range(3)}, "everywhere": everywhere}
for name, each in tried.items():
    result = dl.steer(model, each, [-2, -1, 0, 1, 2], **setting)
    values, drift = torch.tensor(result.values("smile")).mean(0), torch.tensor(result.drift).mean(0)
    print(f"{name:10} smile", *(f"{x:5.2f}" for x in values), "drift", *(f"{x:.3f}" for x in drift))

# %% [markdown]
# Amounts run from −2 to 2. `dl.direction` found for itself where the portraits with much and with little smile differ
# more than by chance, and `local` acts there only: on the mouth. It moves the smile both ways and leaves the rest alone.
# Made and added *everywhere*, it drags everything along, and at 2 even the smile suffers.
#
# The **random** directions are the null: as long, at the same patch. They are not idle! Whatever is added to a mouth does
# something to the mouth, and at 2 two of them move the smile by some way, downwards as it happens. Had you looked at one
# of them only, you might have thought too well or too badly of yours. Yours should beat *many*, in the direction that
# it promises.
#
# ### Exercise 07.4
# Find a setting: with a direction that acts in the image stream, the same prompt, seeds and sampling, move the smile up by **at
# least 0.38** of its range on average, with a drift of **0.015 or less**. (The range is 2, from −1 to 1, so the smile has to
# rise by 0.76.) The cell runs as it is; change the amount, or hand `dl.steer` another of the directions above.

# %% tags=["exercise"]
# portraits only: its oracle measures
amount = 0.5
result = dl.steer(model, everywhere, amount, prompts=person, seeds=[0, 1], sampling_steps=8, guidance=1)
moved, drift = (torch.tensor(table).mean(0)[-1] for table in (result.moved("smile"), result.drift))
print(f"smile moved by {moved:.2f} of its range, drift {drift:.3f}")
course.check("07.4", result)

# %% tags=["solution"]
# portraits only: its oracle measures
amount = 3.5
result = dl.steer(model, local, amount, prompts=person, seeds=[0, 1], sampling_steps=8, guidance=1)
moved, drift = (torch.tensor(table).mean(0)[-1] for table in (result.moved("smile"), result.drift))
print(f"smile moved by {moved:.2f} of its range, drift {drift:.3f}")
course.check("07.4", result)

# %% [markdown]
# ## 6 · Small, compared with what?
#
# Are the directions of different attributes orthogonal, and would that mean that they are *disentangled*? `dl.gram` takes
# the cosines of many directions, and of directions that mean nothing in particular, the *nulls*.
#
# **Predict.** Two random directions of 64 × 256 numbers: how large a cosine do you expect?

# %%
# portraits only: its world writes pairs of texts for every attribute
gram = dl.gram(model, ["smile", "mouth_open", "age", "beard", "hat", "glasses"], samples=3)
gram

# %% [markdown]
# The column *rms* is the size of a cosine, whatever its sign. *Within an attribute*: the same attribute in another
# sentence; that is the other end of the scale. Then the nulls: differences of random pairs of texts; differences of pairs of
# sentences that name one thing each, at the same place; random vectors that vary in the same directions as texts do.
#
# ### Exercise 07.5
# One null is missing, the simplest: vectors of which every number is drawn anew. Draw pairs of random normal vectors of
# 64 × 256 numbers, and find the standard deviation of their cosines.

# %% tags=["exercise"]
spread = ...
course.check("07.5", spread)

# %% tags=["solution"]
first, second = torch.randn(2, 500, 64 * 256, generator=torch.Generator().manual_seed(0))
spread = torch.cosine_similarity(first, second).std()
course.check("07.5", spread)

# %% [markdown]
# Random numbers fill all $D = 16384$ dimensions, and their cosines scatter by $1/\sqrt{D}$, less than a hundredth. Differences of
# texts do not: they vary in few directions, in effect in $D_\mathrm{eff} = 46$ of them, and $1/\sqrt{46} = 0.15$ is the size that the
# nulls of the table have. Against the wrong null, the cosines between attributes are surprisingly large, a sign of entanglement;
# against the right ones, surprisingly small: these directions are *more* orthogonal than those of random pairs of texts.
#
# One more reason for care: from every direction `gram` takes off the mean of all 18, and that alone pushes cosines down, to
# $-1/17 = -0.06$ on average. Most of the 0.05 is that.
#
# And all of it is geometry. Whether moving one attribute moves another is a question to the images (notebook 10).
#
# ## What not to conclude
#
# - *The direction is long, so it matters*, or *the cosine is small, so the two are independent*. Both count numbers that
#   the model may ignore: most of $n$ was padding. Ask what an image does.
# - *One row is enough, so the other rows are unused.* For this word in this prompt. A hat, or a prompt with other words
#   at these rows, may need more: try it.
# - *The line is as good as the arc.* Here. In a model without normalisation at the entrance it may differ.
# - *It moved the smile, so it is the smile's direction.* Many directions move the smile; `dl.orthogonal_probes` finds
#   some that are orthogonal to each other and do.
# - A few prompts and seeds, one site, one attribute, in a world where attributes are independent by choice, and age and
#   skin tone are cartoon stand-ins.
#
# **To discuss.** What should "−1 times adding a hat" be, and who decides? And: a paper shows a matrix of small cosines
# between directions and says "disentangled". What would you ask for?
