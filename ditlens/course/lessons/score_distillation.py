"""Notebook 08: score distillation: SDS, DDS, CSDS."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch

from ditlens.course.answers import function, number, words
from ditlens.course.exercise import AnswerError, Exercise, Idea, Lesson, near, short
from ditlens.worlds.analytic import GaussianWorld

PIXEL = Exercise(
    id="08.1",
    title="One pixel under DDS",
    difficulty=1,
    takes="a number",
    reads=number,
    right=near(1.8, 0.02),
    praise="-1.2 + (3 - 0). DDS moves by what tells the two texts apart and keeps what is particular to this "
    "picture: that it lies 1.2 below its text's mean.",
    ideas=(
        Idea(
            near(3.0, 0.1),
            "That is the mean of the target text, where SDS ends, whatever the pixel was. DDS subtracts something "
            "first. What would SDS do to the same pixel under its own text?",
            3.0,
        ),
        Idea(
            near(4.2, 0.02),
            "You moved it away from the target's mean by the distance it had, but to the other side. It lies below "
            "its own mean: on which side does it end?",
            4.2,
        ),
        Idea(
            near(0.9, 0.02),
            "Half-way between -1.2 and 3: an average of source and target. Look at the line in the right "
            "panel; what is its slope?",
            0.9,
        ),
        Idea(
            near(-1.2, 0.02),
            "Then nothing would have been edited. The two texts differ by 3.",
            -1.2,
        ),
    ),
    hints=(
        "Read it off the right panel: where is -1.2 on the horizontal axis?",
        "Everything moves by the same, the difference of the two means.",
    ),
    example=1.8,
)


def setting() -> tuple[Any, ...]:
    """A point at which a learner's gradient is tried: field, z, x, t, eps, source, target."""
    values = (1.1, 0.3, -0.7, 0.4, 2.0)  # z, x, eps, source, target
    z, x, eps, source, target = (torch.full((1, 1, 1, 1), value) for value in values)
    return GaussianWorld(0.5), z, x, 0.6, eps, source, target


def points(z: Any, x: Any, t: float, eps: Any) -> tuple[Any, Any]:
    """The target point and the source point, under the same noise."""
    return (1 - t) * z + t * eps, (1 - t) * x + t * eps


def delta_score(field: Any, z: Any, x: Any, t: float, eps: Any, source: Any, target: Any) -> Any:
    """What the model finds wrong with z, less what it finds wrong with x."""
    p, q = points(z, x, t, eps)
    return (field(p, t, target) - (eps - z)) - (field(q, t, source) - (eps - x))


def plain_score(field: Any, z: Any, x: Any, t: float, eps: Any, source: Any, target: Any) -> Any:  # noqa: ARG001
    """SDS."""
    return field(points(z, x, t, eps)[0], t, target) - (eps - z)


def no_truth(field: Any, z: Any, x: Any, t: float, eps: Any, source: Any, target: Any) -> Any:
    """Without the true velocities."""
    p, q = points(z, x, t, eps)
    return field(p, t, target) - field(q, t, source)


def one_point(field: Any, z: Any, x: Any, t: float, eps: Any, source: Any, target: Any) -> Any:
    """Both texts at the target point."""
    p, _ = points(z, x, t, eps)
    return field(p, t, target) - field(p, t, source)


def flipped(field: Any, z: Any, x: Any, t: float, eps: Any, source: Any, target: Any) -> Any:
    """The other sign."""
    return -delta_score(field, z, x, t, eps, source, target)


def as_noise(field: Any, z: Any, x: Any, t: float, eps: Any, source: Any, target: Any) -> Any:
    """The velocities compared with the noise."""
    return plain_score(field, z, x, t, eps, source, target) - z


def is_like(*wrong: Callable[..., Any]) -> Callable[[Any], bool]:
    """Whether a learner's gradient is that of one of these."""
    return lambda found: any(abs(float(found) - float(each(*setting()))) < 1e-3 for each in wrong)


GRADIENT = Exercise(
    id="08.2",
    title="From SDS to DDS",
    difficulty=2,
    takes="a function of field, z, x, t, eps, source and target that returns a gradient",
    reads=function(lambda learner: learner(*setting()), "field", "z", "x", "t", "eps", "source", "target"),
    right=is_like(delta_score),
    praise="The noise has cancelled: what is left is v(p, target) - v(q, source) + z - x. Nothing is random "
    "any more but the places where the model is asked.",
    ideas=(
        Idea(
            is_like(plain_score),
            "That is SDS: it does not ask about the source at all. What would the model find wrong with x "
            "under its own text?",
            plain_score,
        ),
        Idea(
            is_like(no_truth),
            "You left out the true velocities, eps - z and eps - x. The noise in them cancels, but z and x do not: "
            "without them nothing says how far z has come.",
            no_truth,
        ),
        Idea(
            is_like(one_point),
            "You asked under both texts at the same point. That is another method (here: HSDS). DDS asks about the "
            "source at the source's own noised latents.",
            one_point,
        ),
        Idea(
            is_like(flipped),
            "The sign is turned round. A step goes against the gradient, so target comes first, source is "
            "subtracted.",
            flipped,
        ),
        Idea(
            is_like(as_noise),
            "You compared the velocity with eps. The model predicts noise minus clean: what is that for z?",
            as_noise,
        ),
    ),
    hints=(
        "The diagram has every part. First mix both latents with the same noise.",
        "wrong_z = field(p, t, target) - (eps - z), and the same for x, q and source.",
        "Return wrong_z - wrong_x.",
    ),
    example=delta_score,
)

NAMES = ("sds", "penalty", "ball", "delta", "orthogonal")

OWN = Exercise(
    id="08.3",
    title="Under its own text",
    difficulty=2,
    takes=f"a list of some of {', '.join(NAMES)}",
    reads=words(*NAMES),
    right=lambda found: found == {"sds", "penalty", "ball"},
    praise="A penalty or a ball says how far a picture may move, and it moves that far for no reason at all. "
    "The delta and the orthogonal reading know what the source text would do anyway, and take it away.",
    ideas=(
        Idea(
            lambda found: not found,
            "The text describes the picture, so why should it move? Because the picture is not the mean of "
            "what the text describes. Run all five and compare with the reconstruction.",
            [],
        ),
        Idea(
            lambda found: found == {"sds"},
            "A constraint makes the move smaller. Does it make it zero? Compare pixel by pixel, not by eye.",
            ["sds"],
        ),
        Idea(
            lambda found: found == set(NAMES),
            "Two of them leave the picture as it is, to the last bit. What do they know that the others do not?",
            NAMES,
        ),
        Idea(
            lambda found: bool({"delta", "orthogonal"} & found),
            "Was it compared with the source image? The autoencoder changes that by itself; take the "
            "reconstruction. And one of your list asks what the source text does to the source.",
            ["sds", "penalty", "ball", "orthogonal"],
        ),
    ),
    hints=(
        "edit = edited(readings[name], source_text) for each name, with the target text equal to the source text.",
        "np.array_equal(edit.image, edit.reconstruction) is exact.",
        "Or ask the methods what they promise: method.exact_at_0.",
    ),
    example=["sds", "penalty", "ball"],
)


def facts_of(edit: Any) -> SimpleNamespace:
    """What the last exercise looks at."""
    if not hasattr(edit, "after"):
        raise AnswerError(f"Got {short(edit)}, which is no edit: give what edited(...) returned.")
    return SimpleNamespace(smile=float(edit.after["smile"]), drift=float(edit.drift))


def ended(smile: float, drift: float) -> SimpleNamespace:
    """An edit as far as the last exercise looks at it."""
    return SimpleNamespace(after={"smile": smile}, drift=drift)


RADIUS = Exercise(
    id="08.4",
    title="How large a ball?",
    difficulty=3,
    takes="the edit that edited(...) returned",
    reads=facts_of,
    right=lambda found: found.smile <= -0.65 and found.drift <= 0.045,
    praise="So a ball can do it, if somebody finds its radius for this picture and this wish. The delta reading "
    "drifts half as much without being told any. That is why the radius is not what editors rely on.",
    ideas=(
        Idea(
            lambda found: found.drift > 0.08,
            "That is as much drift as without a constraint: the latents never get to the edge of so large a ball.",
            ended(-0.94, 0.099),
        ),
        Idea(
            lambda found: found.drift > 0.045,
            "The frown is there, and the ball leaves room for more than the frown. Make it smaller.",
            ended(-0.91, 0.058),
        ),
        Idea(
            lambda found: found.smile > -0.65,
            "Little drift, and no frown: the ball holds back what you asked for and what you did not, alike. "
            "It cannot tell them apart. Make it larger.",
            ended(0.14, 0.01),
        ),
    ),
    hints=(
        "Try a few radii in a loop, and print smile and drift.",
        "0.05 is too small, 0.2 too large.",
        "0.1 or a little more.",
    ),
    example=ended(-0.71, 0.032),
)

LESSON = Lesson(
    number="08",
    name="score_distillation",
    title="Score distillation: SDS, DDS, CSDS",
    goal="Move the latents of a picture by the opinion of the model, and keep the rest where it is.",
    minutes=50,
    before="notebook 02.",
    objectives=(
        "say what score distillation (SDS) does to a picture, and why it blurs and drifts",
        "write the delta score (DDS), and say what cancels in it",
        "test an editor with a picture's own text, the cheapest test there is",
        "compare ways to constrain an edit by what they reach and what they drag along",
    ),
    exercises=(PIXEL, GRADIENT, OWN, RADIUS),
    discuss=(
        (
            "SDS moves a picture even under a text that describes it well. What is it that the model finds wrong?",
            "That it is this picture. It pulls towards what is usual for the text, so everything particular is an "
            "error. Guidance makes the pull stronger.",
        ),
        (
            "The formula of CSDS is not known to us. Is it right to build and to teach four readings of it?",
            "If it is said, in code and in tables, and if no number of ours is shown as theirs. Ask what a "
            "reader of a results table would believe without the word recon in the name.",
        ),
    ),
    trouble=(
        "Whoever compares with the source image finds that all methods change it: it is the autoencoder that does.",
        "Edits take about half a second each; on a slow laptop the strip of section 5 takes ten seconds.",
        "Results for one picture and one seed differ from the averages in section 6. That is meant to be noticed.",
    ),
)
