# %%
import numpy as np

from ditlens import course
from ditlens.views.plots import NotebookFigure

course.start("12")

# %%
model = course.model()
model

# %% [markdown]
# You can now make a diffusion transformer draw, look inside it, change what you see and measure what comes of it. What
# is left is the hard part: to ask a question of your own, and to answer it so that somebody who doubts you can check.
#
# This notebook goes through one small study from beginning to end, with a result that many would not publish: *nothing
# happened*. Then it is your turn.

# %%
course.diagram("12")

# %% [markdown]
# ## 1 · From a question to a measurement
#
# "Does the model understand emotions?" cannot be measured. Here is how a question becomes a study:
#
# | step | our example |
# |---|---|
# | **question**, about something that can be varied | Does a smile in the text also narrow the eyes? In people it does. |
# | **measure**, one number for each image | how open the eyes are, read by the oracle, as a share of its range |
# | **comparison** | the same seed with *a big frown* and with *a big smile*: a pair |
# | **prediction**, before the run | no: in this world attributes were drawn independently |
# | **smallest effect that matters** | 0.05 of the range; less nobody would see |
# | **controls** | does the smile itself move (else the text did nothing)? What does *any* rewording do? |
# | **number of pairs** | 24, in two halves: one to explore, one to confirm |
#
# Write such a table first. Afterwards, everybody remembers having predicted what came out.
#
# ### Exercise 12.1
# Bring these steps in order: `"claim"`, `"interval"`, `"prediction"`, `"question"`, `"run"`.

# %% tags=["exercise"]
order = ...  # a list of the five words
course.check("12.1", order)

# %% tags=["solution"]
order = ["question", "prediction", "run", "interval", "claim"]
course.check("12.1", order)

# %% [markdown]
# ## 2 · How many pairs?
#
# The mean over $n$ pairs has a 95 % interval of about $\pm 1.96\, s / \sqrt{n}$, where $s$ is the standard deviation of the
# differences. So a pilot with a few pairs, which gives $s$, tells you how many the study needs.
#
# ### Exercise 12.2
# Write a function of the `spread` $s$ and the `half_width` that you want (0.02, say) that returns how many pairs it takes,
# as a whole number, rounded up.


# %% tags=["exercise"]
def pairs_needed(spread, half_width): ...


course.check("12.2", pairs_needed)


# %% tags=["solution"]
def pairs_needed(spread, half_width):
    return int(np.ceil((1.96 * spread / half_width) ** 2))


course.check("12.2", pairs_needed)

# %% [markdown]
# Three functions do the work of the study. `read` draws a text from some seeds and reads all attributes. `shifts` subtracts
# two such readings: how far each attribute moved in each pair. `interval` draws pairs with replacement, again and again,
# and sees how far their mean scatters: the *bootstrap*.
#
# With a model that has no oracle, let `read` return numbers that you compute from the image, such as its redness.


# %%
def read(text, seeds):
    """What is measured in the image of each seed."""
    return model.world.measure(model.sample([text] * len(seeds), seeds, steps=8, guidance=1))


def interval(values, repeats=4000):
    """A mean and its 95 % interval over pairs."""
    values = np.asarray(values, float)
    drawn = np.random.default_rng(0).integers(0, len(values), (repeats, len(values)))
    return values.mean(), *np.quantile(values[drawn].mean(1), [0.025, 0.975])


# %%
# portraits only: its world says how long the range of an attribute is
numeric = {name: spec.range for name, spec in model.world.attributes.items() if hasattr(spec, "range")}


def moved(name, a, b):
    """How far a number moved, as a share of its range; of a category, whether it changed: 0 or 1."""
    return (b - a) / numeric[name] if name in numeric else float(a != b)


def shifts(before, after):
    """By attribute: what moved in each pair."""
    pairs = list(zip(before, after, strict=True))
    return {name: [moved(name, a[name], b[name]) for a, b in pairs] for name in model.world.attributes}


# %% [markdown]
# ## 3 · The run
#
# The plan stands before the run, in a cell of its own. Both texts say *no glasses*, since eyes behind sunglasses cannot
# be read, and *no hat*, whose brim might hide them.
#
# **Predict.** Write down your own guess for the mean shift of the eyes.

# %%
plan = {
    "before": "a portrait of a person with a big frown, no glasses and no hat",
    "after": "a portrait of a person with a big smile, no glasses and no hat",
    "reworded": "a picture of a person with no hat, no glasses and a big frown",
    "measure": "eye_open",
    "smallest effect": 0.05,
    "explore": list(range(12)),
    "confirm": list(range(12, 24)),
}

# %%
# portraits only: its oracle measures
frowning = read(plan["before"], plan["explore"])
smiling = shifts(frowning, read(plan["after"], plan["explore"]))
reworded = shifts(frowning, read(plan["reworded"], plan["explore"]))
for name, values in {
    "eyes, frown to smile": smiling["eye_open"],
    "eyes, only reworded": reworded["eye_open"],
    "smile, frown to smile": smiling["smile"],
}.items():
    print("{:22} {:6.3f} ({:6.3f} to {:6.3f})".format(name, *interval(values)))

# %% [markdown]
# Read the last line first: it is the *positive control*. The text did change what it names, by most of its range. So if
# the eyes stay, they do not stay because nothing happened.
#
# The middle line is the *null*: how much eyes move when the text is only worded differently. Without it, any number in
# the first line would look like an effect.
#
# ### Exercise 12.3
# Which sentence does the first line allow?
#
# - `"a"`: A smile in the text does not change the eyes.
# - `"b"`: In 12 pairs the shift of the eyes cannot be told from 0, and a shift of 0.05 of the range or more is unlikely.
# - `"c"`: The eyes narrow a little, but the effect is not significant yet; with more pairs it will be.
# - `"d"`: The model has no notion of a genuine smile.

# %% tags=["exercise"]
# portraits only: about the run above
allowed = ...
course.check("12.3", allowed)

# %% tags=["solution"]
# portraits only: about the run above
allowed = "b"
course.check("12.3", allowed)

# %% [markdown]
# ## 4 · Exploring, and confirming
#
# We had one attribute in mind, but the oracle measured all. It would be a waste not to look, would it not?
#
# **Predict.** How many of the other attributes have an interval without 0, though a smile should move none of them?

# %%
# portraits only: about the run above
others = [name for name in numeric if name != "smile"]
found = [name for name in others if (ends := interval(smiling[name])[1:])[0] > 0 or ends[1] < 0]
for name in others:
    mark = "   <- without 0" if name in found else ""
    print("{:12} {:6.3f} ({:6.3f} to {:6.3f})".format(name, *interval(smiling[name])) + mark)

# %% [markdown]
# Note the opening of the mouth, too. Its interval holds 0, and reaches far beyond 0.05. So a sizeable effect
# fits as well as none: *undecided*, and by no means "no effect".
#
# ### Exercise 12.4
# Suppose that a smile moves none of 20 attributes. How many of their 20 intervals of 95 % would you expect to miss 0 all the
# same?

# %% tags=["exercise"]
expected = ...
course.check("12.4", expected)

# %% tags=["solution"]
expected = 20 * 0.05
course.check("12.4", expected)

# %% [markdown]
# What one finds by looking is a *hypothesis*. It was chosen because it stood out in these pairs, so these pairs cannot be
# its proof. That is what the second half of the seeds is for: run again, and look at nothing but what was found, the
# undecided mouth, and the eyes.

# %%
# portraits only: its oracle measures
fresh = shifts(read(plan["before"], plan["confirm"]), read(plan["after"], plan["confirm"]))
for name in dict.fromkeys([plan["measure"], *found, "mouth_open"]):
    print(f"{name:12} explored {np.mean(smiling[name]):6.3f},", end=" ")
    print("confirmed {:6.3f} ({:6.3f} to {:6.3f})".format(*interval(fresh[name])))

# %% [markdown]
# What stood out in the first half cannot be told from 0 in the second. That is not a refutation: the beard moved by about
# as much as before, with a wider interval. It is *not confirmed*, and below what we said would matter. The mouth,
# too, moved as before, and is still undecided: its pairs scatter widely, and section 2 says how many it would take. And the eyes? Look closely: this time
# their interval has no 0 in it! Many a paper would now write "a significant narrowing of the eyes".

# %%
# portraits only: draws both halves
figure = NotebookFigure(figsize=(7.2, 2.4), layout="constrained")
ax = figure.subplots()
rows = {"eyes, explored": smiling, "eyes, confirmed": fresh, "reworded": reworded}
for place, values in enumerate(each["eye_open"] for each in rows.values()):
    mean, low, high = interval(values)
    ax.plot(values, [place] * len(values), ".", color="#999")
    ax.errorbar(mean, place, xerr=[[mean - low], [high - mean]], fmt="o", color="#0072B2", lw=3)
ax.axvspan(-plan["smallest effect"], plan["smallest effect"], color="#eee", zorder=0)
ax.set_title("Do the eyes follow the smile?")
ax.set(yticks=range(3), yticklabels=rows, xlabel="shift of eye_open (share of its range)", ylim=(2.5, -0.5))
figure

# %% [markdown]
# Dots are pairs (one lone dot makes the last bar as long as it is), bars are 95 % intervals of the mean, and the grey band is what we had said would not matter. Both bars of
# the eyes lie deep inside the band. Distinguishable from 0 is one question, large enough to matter is another, and we
# had fixed our answer to the second *before* we saw the numbers. A shift of less than a hundredth of the range may as well
# be the oracle's, which sees another mouth below the eyes.
#
# This is what a negative result looks like when it is worth something: controls that worked, an interval that is narrow
# *compared with the smallest effect of interest*, and a second run with the same answer: inside the band. The two intervals
# do not even overlap, though. With 12 pairs each, take the ends of an interval with a grain of salt.
#
# "We found no effect" with an interval from −0.5 to 0.5 is no result. It is a study that was too small.
#
# ## 5 · Your study
#
# Take a question of your own, or one of these. Each can be answered on a laptop in minutes. (`dl` is
# `import ditlens as dl`.)
#
# | | question | with |
# |---|---|---|
# | 1 | Is *huge* more than *big*? Is *slight* more than nothing? | `model.sample`, the oracle |
# | 2 | Does the place of a word in the prompt matter, first or last? | `model.sample`, reordered prompts |
# | 3 | Does the model understand *no* hat, or does the word *hat* bring one? | `model.sample` |
# | 4 | What happens to the attribute named second when a prompt names ten? | `dl.design`, the oracle |
# | 5 | From which step on is the hair colour settled? | `dl.patch(measure="hair_color", steps=...)` |
# | 6 | Which of two contradicting words wins, in which block? | `dl.patch(tokens="changed")` |
# | 7 | Is there an attribute that can be read better than it can be steered? | `dl.probe`, `dl.steer` |
# | 8 | Does a direction of the smile made on young faces work on old ones? | `dl.direction`, `dl.steer` |
# | 9 | Is a knocked-out block missed less late in the run than early? | `dl.intervene(steps=...)`, `dl.bypass` |
# | 10 | Do two edits, one after the other, give the same as both at once? | `dl.edit` |
# | 11 | Which edits can be undone by their opposite? | `dl.edit`, degree and back |
# | 12 | Does the biased twin read age where portraits reads it? | `dl.load("portraits-twin")`, `dl.patch` |
#
# Begin with a template and a pilot of four pairs, which tells how much the measure scatters. Change what is varied and
# what is measured; then write your prediction; then raise the number of seeds.
#
# A category (hat, hair colour) has no amount: in `shifts` it counts 1 in a pair where it changed and 0 where it did not.
# Such numbers are never negative, so their interval tells little by itself; give the effect *minus* the control, pair by
# pair.

# %%
# portraits only: its oracle measures
mine = {
    "before": "a young person, no hat",
    "after": "an old person, no hat",
    "measure": "beard",
    "seeds": range(4),
}
mine["reworded"] = "no hat, a young person"  # says the same: for the control

# %%
# portraits only: its oracle measures
start = read(mine["before"], mine["seeds"])
effect = shifts(start, read(mine["after"], mine["seeds"]))[mine["measure"]]
control = shifts(start, read(mine["reworded"], mine["seeds"]))[mine["measure"]]
print("effect  {:.3f} ({:.3f} to {:.3f})".format(*interval(effect)))
print("control {:.3f} ({:.3f} to {:.3f})".format(*interval(control)))
print(f"spread of the effect {np.std(effect, ddof=1):.3f}: how many pairs for a half-width of 0.02?")

# %% [markdown]
# ### Exercise 12.5
# Fill in the form below with your study: lists of one number for each pair, and a claim, one of `"effect"` (the interval has
# no 0 in it), `"no effect of interest"` (the interval lies within ± the smallest effect) or `"undecided"`. Where two of
# them fit, you choose, and argue. The check looks
# at the *form* of the study and not at its subject: whether what a doubter needs is there, and whether your claim
# is what your numbers allow.

# %% tags=["exercise"]
# portraits only: its oracle measures
study = {
    "question": ...,  # a sentence
    "prediction": ...,  # a sentence, written before the run
    "smallest effect": ...,  # a number, in the unit of the measure
    "effect": ...,  # a list: what moved in each pair
    "control": ...,  # a list: what moved in each pair when it should not
    "claim": ...,
}
course.check("12.5", study)

# %% tags=["solution"]
# portraits only: its oracle measures
study = {
    "question": "Does a smile in the text narrow the eyes?",
    "prediction": "No: attributes were drawn independently, so the mean shift lies within 0.05.",
    "smallest effect": 0.05,
    "effect": fresh["eye_open"],  # the half that was not explored
    "control": reworded["eye_open"],
    "claim": "no effect of interest",
}
course.check("12.5", study)

# %% [markdown]
# ## 6 · How it will be judged
#
# | | points | full points for |
# |---|---|---|
# | question | 3 | something that can be varied, and a reason to care |
# | prediction | 2 | written before the run, and able to fail |
# | measure | 3 | one number for each item; why it measures what you mean, and when it would not |
# | controls | 4 | one that must move, one that must not; for probes and directions the nulls of notebooks 06 and 07 |
# | enough items | 2 | a number that was argued for, not the one that fitted the evening |
# | interval and figure | 2 | axes with units, what an item is, what the bars are |
# | claim | 3 | no more than the evidence allows; what it does *not* say |
# | another can repeat it | 1 | runs from top to bottom; seeds and texts are in it |
#
# Twenty points, and none for the effect being there. A careful *nothing* earns all of them.
#
# ## What not to conclude
#
# - *Not significant, so there is no effect.* Only an interval that is narrow against the smallest effect of interest says
#   that. Only an interval that excludes 0 says the opposite. Between them lies *undecided*, which is respectable.
# - *It holds in this model, so it holds in diffusion transformers.* This one is small, draws cartoons, and was trained on
#   attributes that are independent by choice. In photographs a smile does narrow the eyes.
# - *The oracle says so.* It is a network as well. Look at the images, above all at those that surprise you.
# - *24 pairs are 24 prompts.* They are 24 seeds of one prompt. To speak of prompts, vary the prompts.
#
# **To discuss.** Your prediction failed. What do you change: the question, the measure, the prediction, or your mind? And
# would you hand in a study without an effect, and what would have to be in it?
