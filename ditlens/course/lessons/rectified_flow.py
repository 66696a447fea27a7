"""Notebook 02: rectified flow, on paper and in code."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import torch

from ditlens.course.answers import choice, function, number
from ditlens.course.exercise import Exercise, Idea, Lesson, among, between, near
from ditlens.worlds.analytic import GaussianWorld

CLEAN = Exercise(
    id="02.1",
    title="The output is not noise",
    difficulty=1,
    takes="a number",
    reads=number,
    right=near(0.3, 0.001),
    praise="x - sigma * velocity. Whoever reads noise_pred as noise gets 0.5, which is wrong and looks plausible: "
    "no error is raised, images only come out worse.",
    ideas=(
        Idea(
            near(0.5, 0.001),
            "You took noise_pred for the noise, and solved x = (1 - sigma) clean + sigma noise for clean. The name "
            "says noise; what does the model predict?",
            0.5,
        ),
        Idea(
            near(-0.6, 0.001),
            "That is x - velocity, a whole unit of sigma. From sigma 0.4 it is less far to the clean end.",
            -0.6,
        ),
        Idea(
            near(0.0, 0.001),
            "You walked 1 - sigma. That is the way to the noise; which way is the clean end, and how far is it?",
            0.0,
        ),
        Idea(
            near(1.8, 0.001),
            "That is x + (1 - sigma) velocity, the other end of the line: the estimate of the noise.",
            1.8,
        ),
        Idea(
            near(-0.3, 0.001),
            "The size is right and the sign is not: from x, take away what leads to the noise; not the "
            "other way round.",
            -0.3,
        ),
        Idea(
            near(1.5, 0.001),
            "You added, or gave the velocity itself. The velocity points from clean to noise, so the "
            "clean end lies the other way.",
            1.5,
        ),
    ),
    hints=(
        "Look at the diagram: from x, how far along the velocity, and in which direction, is clean?",
        "The distance left is sigma, not 1 - sigma.",
        "clean = x - sigma * velocity.",
    ),
    example=0.3,
)

ORDER = Exercise(
    id="02.2",
    title="Four times the steps",
    difficulty=2,
    takes="a number: error with 16 steps divided by error with 64 steps",
    reads=number,
    right=between(3.4, 4.4),
    praise="Nearly 4: Euler's error goes like 1 / steps. Twice as good costs twice as much; so 20 steps are a "
    "bargain, and 2000 a waste.",
    ideas=(
        Idea(
            between(1.8, 2.2),
            "The square root of 4 is how averages over random draws improve. There is nothing random here once the "
            "noise is drawn. Read the two errors off the table.",
            2.0,
        ),
        Idea(
            between(14, 18),
            "That would be a method of second order (Heun, midpoint). Euler uses one slope for a whole step.",
            16.0,
        ),
        Idea(
            between(0.2, 0.3),
            "You divided the wrong way round: the error with 16 steps is the larger one.",
            0.25,
        ),
        Idea(
            between(0.9, 1.1),
            "Then the number of steps would not matter. Each step is straight and the path is curved.",
            1.0,
        ),
    ),
    hints=(
        "Both errors are in the table that section 3 prints, in its last column.",
        "They are also in the dict `errors`, whose keys are numbers of steps.",
        "Divide the error with 16 steps by the one with 64.",
    ),
    example=3.84,
)

GRID = torch.tensor([1.0, 0.9, 0.6, 0.2, 0.0])


def setting() -> tuple[Any, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, float]:
    """A world on which a learner's loop is tried: field, noise, sigmas, text, null text and guidance."""
    noise = torch.tensor([-1.0, 0.5]).reshape(2, 1, 1, 1)
    text, null = torch.full((1, 1, 1, 1), 2.0), torch.full((1, 1, 1, 1), -1.0)
    return GaussianWorld(0.5), noise, GRID.clone(), text, null, 3.0


def right_loop(field: Any, noise: Any, sigmas: Any, text: Any, null: Any, guidance: float) -> Any:
    """Euler's steps with guidance."""
    x = noise
    for sigma, after in pairwise(sigmas.tolist()):
        away = field(x, sigma, null)
        x = x + (after - sigma) * (away + guidance * (field(x, sigma, text) - away))
    return x


def loop(
    step: Callable[[Any], Any] = lambda at: at.x + (at.after - at.sigma) * at.v,
    guide: Callable[[Any], Any] = lambda at: at.away + at.guidance * (at.own - at.away),
    last: bool = True,
    field_at: str = "sigma",
) -> Callable[..., Any]:
    """A loop with something else in one of its places."""

    def run(field: Any, noise: Any, sigmas: Any, text: Any, null: Any, guidance: float) -> Any:
        at = SimpleNamespace(x=noise, guidance=guidance, steps=len(sigmas) - 1)
        for at.sigma, at.after in list(pairwise(sigmas.tolist()))[: None if last else -1]:
            level = getattr(at, field_at)
            at.away, at.own = field(at.x, level, null), field(at.x, level, text)
            at.v = guide(at)
            at.x = step(at)
        return at.x

    return run


def ddim(at: Any) -> Any:
    """A step that takes the velocity for the noise."""
    return (
        at.x
        if at.sigma == 1
        else (1 - at.after) * (at.x - at.sigma * at.v) / (1 - at.sigma) + at.after * at.v
    )


uphill = loop(lambda at: at.x + (at.sigma - at.after) * at.v)
even = loop(lambda at: at.x - at.v / at.steps)
by_sigma = loop(lambda at: at.x - at.sigma * at.v)
as_noise = loop(ddim)
more_guidance = loop(guide=lambda at: at.own + at.guidance * (at.own - at.away))
less_guidance = loop(guide=lambda at: at.own)
swapped = loop(guide=lambda at: at.own + at.guidance * (at.away - at.own))
unfinished = loop(last=False)
at_the_end = loop(field_at="after")
COUNTED, OVERWRITTEN = "a fixed number of steps", "the noise overwritten"


def twenty(field: Any, noise: Any, sigmas: Any, text: Any, null: Any, guidance: float) -> Any:
    """A loop that knows one grid."""
    for step in range(20):
        away, own = (field(noise, sigmas[step].item(), each) for each in (null, text))
        noise = noise + (sigmas[step + 1] - sigmas[step]) * (away + guidance * (own - away))
    return noise


def in_place(field: Any, noise: Any, sigmas: Any, text: Any, null: Any, guidance: float) -> Any:
    """The right loop, but it writes into the noise that it was given."""
    return noise.copy_(right_loop(field, noise, sigmas, text, null, guidance))


def tried(learner: Callable[..., Any]) -> Any:
    """Where a learner's loop ends, or what it did on the way that it must not do."""
    given = setting()
    try:
        end = learner(*given)
    except IndexError:
        return COUNTED
    if end is None or end is ... or torch.equal(given[1], setting()[1]):
        return end
    return OVERWRITTEN if gives(right_loop)(end) else end


def gives(*loops: Callable[..., Any]) -> Callable[[Any], bool]:
    """Whether a learner's loop ended where one of these ends."""

    def holds(found: Any) -> bool:
        given = torch.as_tensor(found).detach().float()
        return any(torch.allclose(given.flatten(), each(*setting()).flatten(), atol=1e-3) for each in loops)

    return holds


LOOP = Exercise(
    id="02.3",
    title="Your own sampler",
    difficulty=2,
    takes="a function of field, noise, sigmas, text, null and guidance that returns the clean latents",
    reads=function(tried, "field", "noise", "sigmas", "text", "null", "guidance"),
    right=gives(right_loop),
    praise="That is the whole of it. Pipelines add devices, batches and progress bars; the mathematics is "
    "your loop.",
    ideas=(
        Idea(
            among(COUNTED),
            "Your loop asks for a sigma that is not there. The check runs it in the world of one pixel "
            "with 4 steps: "
            "take the number of steps from sigmas, not 20.",
            twenty,
        ),
        Idea(
            among(OVERWRITTEN),
            "Your loop ends in the right place, and overwrites the noise that it was given: x += ... changes the "
            "tensor itself, so whoever starts from it again starts from a picture. Which form makes a new tensor?",
            in_place,
        ),
        Idea(
            gives(at_the_end),
            "You ask for the velocity at the noise level where the step ends. The latents are still at "
            "the one where "
            "it begins.",
            at_the_end,
        ),
        Idea(
            gives(uphill),
            "Your latents run away from the image: you follow the velocity, which points to the noise. Which sign "
            "has next sigma minus sigma?",
            uphill,
        ),
        Idea(
            gives(even),
            "All your steps have the same length. The grid's do not: a step goes from one of its sigmas to "
            "the next.",
            even,
        ),
        Idea(
            gives(by_sigma, loop(lambda at: at.x - at.sigma * at.v, lambda at: at.own)),
            "You jump all the way to the clean estimate in every step. A step only goes to the next noise level.",
            by_sigma,
        ),
        Idea(
            gives(as_noise),
            "You treat the output as noise, as in DDIM. It is the velocity; then a step is one multiplication "
            "and one addition.",
            as_noise,
        ),
        Idea(
            gives(more_guidance),
            "Your guidance starts at the text, and so is stronger by 1 than asked for. It starts at the null "
            "text: at guidance 1 nothing but the text must be left.",
            more_guidance,
        ),
        Idea(
            gives(less_guidance),
            "Your loop samples, but without guidance: the null text has no effect.",
            less_guidance,
        ),
        Idea(
            gives(swapped),
            "Text and null text have changed places in your guidance: at guidance 1 only the text must be left.",
            swapped,
        ),
        Idea(
            gives(unfinished),
            "Your loop stops one step early: with n + 1 sigmas there are n steps, and the last one goes to 0.",
            unfinished,
        ),
    ),
    hints=(
        "for sigma, after in pairwise(sigmas.tolist()): gives both ends of every step.",
        "With guidance: v = v_null + guidance * (v_text - v_null), each of them field(x, sigma, ...).",
        "x = x + (after - sigma) * v; after - sigma is negative.",
    ),
    example=right_loop,
)

GUIDED = Exercise(
    id="02.4",
    title="Where guidance leads",
    difficulty=2,
    takes="a number: the mean of the samples",
    reads=number,
    right=near(5.0, 0.15),
    praise="0.5 + 3 (2 - 0.5) = 5. Guided samples are not samples of what the text describes: no image of "
    "this text lies near 5. Guidance exaggerates what tells the text from no text.",
    ideas=(
        Idea(
            near(2.0, 0.15),
            "That is the mean of the text's own images. If guidance only sharpened, samples would gather there. "
            "Sample and look.",
            2.0,
        ),
        Idea(
            near(6.0, 0.15),
            "That is three times the text. Guidance multiplies the difference from the null text, which is "
            "not 0 here.",
            6.0,
        ),
        Idea(
            near(6.5, 0.15),
            "That is 2 + 3 * 1.5, from the text on, or 0.5 + 3 * 2, three times the text. What is "
            "multiplied is the "
            "difference, and it is added to the null text: guidance 1 must give the text, 2.",
            6.5,
        ),
        Idea(
            near(3.5, 0.15),
            "That is guidance 2. Count again: 0 is the null text, 1 the text.",
            3.5,
        ),
    ),
    hints=(
        "Sample as in section 3, with two settings more: null_text= and guidance=.",
        "dl.flow.sample(gauss, starts, dl.flow.sigmas_linear(100), two, null_text=half, guidance=3.0).mean()",
        "On paper: the velocity is linear in the mean, so guidance acts on means, as the formula of section 5 does "
        "on velocities.",
    ),
    example=5.0,
)

SIDE = Exercise(
    id="02.5",
    title="What else guidance does",
    difficulty=3,
    takes="'lighter', 'darker' or 'neither'",
    reads=choice("lighter", "darker", "neither"),
    right=among("lighter"),
    praise="The text says nothing about skin, the attributes are independent in this world, and still it "
    "moves. Guidance multiplies every difference between text and no text, those that are the network's "
    "mistakes included.",
    ideas=(
        Idea(
            among("neither"),
            "The text does not name it, so it should not move. That holds for an exact model. Compare the means of "
            "skin_tone over the six seeds (0 is the lightest).",
            "neither",
        ),
        Idea(
            among("darker"),
            "It moves, but look at which end of the scale is which: model.world.attributes['skin_tone'].levels.",
            "darker",
        ),
    ),
    hints=(
        "Sample the same six seeds with guidance 1 and with 8, and measure: model.world.measure(images).",
        'np.mean([each["skin_tone"] for each in model.world.measure(images)]) for both.',
        "0 is the lightest. The mean at guidance 8 is about half of that at guidance 1.",
    ),
    example="lighter",
)

LESSON = Lesson(
    number="02",
    name="rectified_flow",
    title="Rectified flow, on paper and in code",
    goal="From noise to a picture in twenty steps: first where every number is known, then with the model.",
    minutes=40,
    before="notebook 00; a normal distribution and a derivative.",
    objectives=(
        "say what the model predicts, and get the clean image and the noise from it",
        "tell sigma, timestep and step apart",
        "write the sampling loop yourself, and get the picture of `model.generate`",
        "say what guidance does, and what it does besides",
    ),
    exercises=(CLEAN, ORDER, LOOP, GUIDED, SIDE),
    discuss=(
        (
            "A model that knew the flow exactly would give one and the same image in a single step, whatever "
            "the seed. Why, and why does ours not?",
            "At sigma 1 the latents hold nothing of the image, so the best prediction is the mean of all "
            "images of the text. The network is trained on a share of noise levels near 1 only, and lets "
            "something of the noise through, e.g. into the colours.",
        ),
        (
            "Guided images are rated better by people, although they are no samples of what the text describes. "
            "When does that matter?",
            "For one nice picture it does not. It does where pictures stand for a population, e.g. as "
            "training data or when one counts how people are shown.",
        ),
    ),
    trouble=(
        "Sign errors in the loop give noise of growing size; decoding still gives a picture, only a wild one.",
        "Those who know DDPM or DDIM read noise_pred as noise. Exercise 02.1 is for them.",
        "Timesteps passed as sigma raise an error here, in other code they do not.",
    ),
)
