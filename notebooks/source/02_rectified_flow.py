# %%
import inspect
from itertools import pairwise

import numpy as np
import torch

import ditlens as dl
from ditlens import course
from ditlens.images import to_image
from ditlens.views.plots import NotebookFigure, plot_portraits
from ditlens.worlds.analytic import GaussianWorld, MixtureWorld

torch.set_grad_enabled(False)
course.start("02")

# %%
model = course.model()

# %% [markdown]
# SD3, FLUX and our model make pictures by a **rectified flow**. The idea fits on a line: mix a clean image with noise,
# and learn in which direction the noise lies. To make a picture, start at noise and walk the other way.
#
# In a large model you can check none of this, because nobody knows the right answer. So we begin in a *world* where
# every number is known: it says which images there are, here of a single pixel, and a formula takes the place of the
# model. Only then we go to the model.

# %%
course.diagram("02")

# %% [markdown]
# The names in this notebook: **sigma** is the noise level, 1 for pure noise and 0 for a clean image (papers write $t$);
# the **velocity** is what the model predicts, $v = \text{noise} - \text{clean}$.
#
# ## 1 · Straight pairs, curved paths
#
# In this world an image is one number: near −2 or near +2, equally often, with a spread of 0.3. On the left, each line joins one image with
# the noise that it was mixed with. Where lines cross, a model that sees only $x$ cannot know which line it is on. It
# predicts the *mean* of the velocities there.
#
# **Predict.** On the right, points start at noise and follow these means. Will their paths cross? Will they be straight?

# %%
# means: the two kinds of images; world(x, sigma, means): the mean velocity at x, by formula
world, means = MixtureWorld((0.5, 0.5), std=0.3), torch.tensor([-2.0, 2.0]).reshape(1, 2, 1, 1, 1)
noise = torch.randn(60, 1, 1, 1, generator=torch.Generator().manual_seed(0))
clean = torch.tensor([-2.0, 2.0]).repeat(30).reshape(60, 1, 1, 1) + 0.3 * noise.flip(0)
paths, levels = [noise], dl.flow.sigmas_linear(100)
end = dl.flow.sample(world, noise, levels, means, on_step=lambda state: paths.append(state.latents))

# %%
figure = NotebookFigure(figsize=(8.5, 3.4), layout="constrained")
left, right = figure.subplots(1, 2, sharey=True)
left.plot([1, 0], torch.stack([noise, clean]).reshape(2, 60), color="#D55E00", alpha=0.5, linewidth=1)
right.plot(levels, torch.stack(paths).reshape(101, 60), color="#0072B2", alpha=0.6, linewidth=1)
for ax, title in ((left, "pairs of noise and image"), (right, "paths of the flow")):
    ax.set(title=title, xlabel="sigma", ylabel="x", xlim=(1, 0))
figure

# %% [markdown]
# Paths never cross: at each place and noise level there is one velocity. So they bend, away from 0, where the two kinds
# of image pull in opposite directions. Each seed's fate is decided by its noise.
#
# ## 2 · A velocity is a mean
#
# Is it true that the velocity is the mean of noise − clean over all pairs that pass through $x$? Try it: draw two million
# pairs, keep those that come close to a place, and average. Now the images are N(2, 0.5²); `GaussianWorld` has the
# formula for the mean.

# %%
gauss, two = GaussianWorld(std=0.5), torch.full((1, 1, 1, 1), 2.0)
draw = torch.Generator().manual_seed(0)
images = 2 + 0.5 * torch.randn(2_000_000, generator=draw)
noises = torch.randn(2_000_000, generator=draw)
mixed = 0.5 * images + 0.5 * noises  # sigma 0.5
for place in (0.0, 1.0, 2.0):
    close = (mixed - place).abs() < 0.02
    average = (noises - images)[close].mean()
    formula = gauss(torch.full((1, 1, 1, 1), place), 0.5, two).item()
    print(f"at x = {place}: mean of {int(close.sum())} pairs {average:.2f}, formula {formula:.2f}")

# %% [markdown]
# A network that is trained to predict noise − clean with a squared error learns this mean and cannot do better. Two
# things follow. The velocity tells you the expected clean image, $x - \sigma v$, and the expected noise,
# $x + (1 - \sigma)\,v$. And where an image is hardly begun, the expected clean image is an average of many: it is blurred.
#
# **A trap in a name.** diffusers calls the output of the transformer `noise_pred`. That name is left over from older
# models. For SD3 and FLUX it is the velocity.
#
# ### Exercise 02.1
# At sigma 0.4 a latent value is 0.9, and the transformer's `noise_pred` is 1.5. What is the clean estimate?

# %% tags=["exercise"]
clean_estimate = ...
course.check("02.1", clean_estimate)

# %% tags=["solution"]
clean_estimate = 0.9 - 0.4 * 1.5
course.check("02.1", clean_estimate)

# %% [markdown]
# ## 3 · Steps
#
# A computer follows a curved path by straight steps (Euler): $x \leftarrow x + (\sigma' - \sigma)\,v$. In this world the
# end of the exact path is known (`gauss.flow`), so the error is, too.
#
# **Predict.** Where do *all* samples land if there is a single step from 1 to 0?

# %%
starts = torch.randn(1000, 1, 1, 1, generator=draw)
exact = gauss.flow(starts, 1.0, 0.0, two)
errors = {}
for steps in (1, 2, 4, 8, 16, 32, 64, 128):
    ends = dl.flow.sample(gauss, starts, dl.flow.sigmas_linear(steps), two)
    errors[steps] = (ends - exact).abs().mean().item()
    print(f"{steps:3} steps: mean {ends.mean():.2f}, spread {ends.std():.3f}, error {errors[steps]:.4f}")

# %% [markdown]
# One step: every sample is 2, the mean, with no spread at all. At sigma 1 the latents hold nothing of an image, so the
# expected clean image is the same for every noise. Variety comes from the later steps.
#
# ### Exercise 02.2
# By what factor does the error shrink from 16 steps to 64? Predict it first, then compute it.

# %% tags=["exercise"]
factor = ...
course.check("02.2", factor)

# %% tags=["solution"]
factor = errors[16] / errors[64]
course.check("02.2", factor)

# %% [markdown]
# ## 4 · Three clocks
#
# Now the model. Its *scheduler*, the part of a pipeline that plans the steps, says at which noise levels it steps.

# %%
sigmas = model.sigmas(20)
print("step      sigma   timestep that the transformer is given")
for step in (0, 1, 10, 18, 19):
    print(f"{step:4} {sigmas[step]:10.4f} {1000 * sigmas[step]:10.1f}")
print(f"{len(sigmas)} sigmas for 20 steps; the last is {sigmas[-1]:g}, and no step starts there")

# %% [markdown]
# (20 levels, evenly spaced from 1 to 0.001, and then the end, 0: this is how diffusers counts, and so step 10 of 20 is not
# at 0.5 and the last step is tiny. Large models also shift the levels, for more steps where there is much noise.)
#
# Step, sigma and timestep say the same thing on three scales, and mixing them up rarely raises an error: a transformer
# takes any number. ditlens takes sigma everywhere and refuses what cannot be one:

# %%
try:
    dl.flow.interpolate(two, two, sigma=500)
except dl.errors.SettingError as error:
    print(error)

# %% [markdown]
# ## 5 · A sampler of your own
#
# **Guidance.** The model is asked twice in each step, under the text and under the empty text (the *null text*), and the
# velocity used is $v = v_0 + g\,(v_{text} - v_0)$ with the guidance $g$. Below, `c` is the embedding of the text, and `null`
# that of the empty text.

# %%
text = "a clean shaven person with a big smile, long red hair, no glasses, no hat, blue background"
c, null, start = model.encode_text(text), model.encode_text(""), model.noise([3])
picture = model.generate(text, seed=3, steps=20, guidance=3.0)


def compare(latents):
    """How far a picture of these latents is from that of model.generate, in brightness levels."""
    if latents is not ...:
        mine = np.asarray(to_image(model.decode(latents)), float)
        off = np.abs(mine - np.asarray(picture, float)).max()
        print(f"largest difference of a pixel: {off:g} of 255 (0 or 1 is rounding: the same picture)")


# %% [markdown]
# ### Exercise 02.3
# Write the loop. `field(latents, sigma, text)` is the velocity, for the model as well as for the worlds above. The cell
# then compares your picture with that of `model.generate`. The check, after that, runs your loop in a world of one
# pixel, with other noise levels and fewer steps.


# %% tags=["exercise"]
def sampler(field, noise, sigmas, text, null, guidance):
    return ...  # about six lines


compare(sampler(model, start.clone(), model.sigmas(20), c, null, 3.0))
course.check("02.3", sampler)


# %% tags=["solution"]
def sampler(field, noise, sigmas, text, null, guidance):
    x = noise
    for sigma, after in pairwise(sigmas.tolist()):
        away = field(x, sigma, null)
        v = away + guidance * (field(x, sigma, text) - away)
        x = x + (after - sigma) * v
    return x


compare(sampler(model, start.clone(), model.sigmas(20), c, null, 3.0))
course.check("02.3", sampler)

# %% [markdown]
# The loop of ditlens is no secret. It is in `ditlens/flow.py`, together with its inversion, and all samplers and
# editors of the package use it:

# %%
print(inspect.getsource(dl.flow.integrate).split('"""')[-1])

# %% [markdown]
# Watch it work. Above: the latents after a step, and the noise level that they have then; below: the clean image to which the
# velocity of the same step pointed, $x - \sigma v$.
#
# **Predict.** After which step can you first tell the smile, above and below?

# %%
states = []
dl.flow.sample(model, start, model.sigmas(20), c, null_text=null, guidance=3.0, on_step=states.append)
chosen = [states[step] for step in (0, 2, 5, 8, 12, 19)]
rows = [state.latents for state in chosen] + [state.clean for state in chosen]
labels = [f"step {state.step}, to {state.sigma:.2f}" for state in chosen]
labels += [f"clean, by step {state.step}" for state in chosen]
plot_portraits([model.decode(each) for each in rows], labels, columns=6)

# %% [markdown]
# In the very first step (0) the estimate is already a face with red hair on blue, but blurred: an average of the people
# that fit the text. In the portraits model all that the text names is there by step 2, the third one; what is left to the later
# ones is outline and detail. That is why experiments on *what* is drawn look at early steps.
#
# ## 6 · What guidance does
#
# Back to the world of one pixel. The text says "mean 2". Let the null text say "mean 0.5".
#
# ### Exercise 02.4
# With guidance 3, what will be the mean of the samples? **Predict**, then sample to see: as in section 3, with
# `gauss`, `starts` and `two`, and with `null_text=half` and `guidance=3.0`, which `dl.flow.sample` takes, too.

# %% tags=["exercise"]
half = torch.full((1, 1, 1, 1), 0.5)  # the null text
mean = ...
course.check("02.4", mean)

# %% tags=["solution"]
half = torch.full((1, 1, 1, 1), 0.5)
grid = dl.flow.sigmas_linear(100)
mean = dl.flow.sample(gauss, starts, grid, two, null_text=half, guidance=3.0).mean()
course.check("02.4", mean)

# %% [markdown]
# And in the model? The same noise, with more and more guidance:

# %%
strengths = (0, 1, 3, 5, 8)
shown = [model.generate(text, seed=3, guidance=each) for each in strengths]
plot_portraits(shown, [f"guidance {each}" for each in strengths], columns=5)

# %% [markdown]
# Guidance 0 ignores the text. What more guidance adds is what the text names, made plainer, and then something else.
# Look at the skin. The text does not mention it.
#
# ### Exercise 02.5
# One picture may be chance. Do the experiment: the same six seeds with guidance 1 and 8, and the oracle's `skin_tone`
# (0 is the lightest). Does skin become `"lighter"` or `"darker"` with guidance, or `"neither"`? Twelve pictures take some
# seconds. (Skin tone is a number in this cartoon, drawn independently of all else.)

# %% tags=["exercise"]
# portraits only: its oracle measures
six = model.sample([text] * 6, seeds=range(6), guidance=1.0)
print(f"guidance 1: {np.mean([person['skin_tone'] for person in model.world.measure(six)]):.2f}")
skin = ...
course.check("02.5", skin)

# %% tags=["solution"]
# portraits only: its oracle measures
tones = []
for guidance in (1.0, 8.0):
    six = model.sample([text] * 6, seeds=range(6), guidance=guidance)
    tones.append(np.mean([person["skin_tone"] for person in model.world.measure(six)]))
    print(f"guidance {guidance:g}: {tones[-1]:.2f}")
skin = "lighter" if tones[1] < tones[0] - 0.05 else "darker" if tones[1] > tones[0] + 0.05 else "neither"
course.check("02.5", skin)

# %% [markdown]
# ## What not to conclude
#
# - "Rectified" does not mean that the paths are straight. The pairs are; the paths of the flow bend, which is why there
#   is more than one step.
# - The blurred first estimate is not what the model "thinks" of. It is an average over everything that still fits.
# - In theory a single step gives the same image for every seed. Try it with the model (`steps=1`): shirts and skin still
#   differ from seed to seed. The network only approximates the mean, and lets something of the noise through.
# - Guided samples are not samples of what the text describes. What you count in guided pictures (who is shown, with what
#   skin) says something about guidance, too.
# - Six seeds and one text are enough to see that guidance moves what no text names, not to say what it does in general.
#
# **To discuss.** A model that knew the flow exactly would give one and the same image in a single step, whatever the
# seed. Why, and why does ours not? And when does it matter that guided images are no samples of what the text describes?
