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
    title="A wrong description",
    difficulty=1,
    takes="a number",
    reads=number,
    right=near(0.8, 0.02),
    praise="-1.2 + (3 - 1). DDS moves by what tells the two texts apart, whether the source text describes the "
    "picture or not. A source text that is already half-way to the target makes the edit too short.",
    ideas=(
        Idea(
            near(1.8, 0.02),
            "That is right for a picture that is described well. Does DDS know under which mean a pixel was drawn, "
            "or only what the texts say?",
            1.8,
        ),
        Idea(
            near(3.0, 0.1),
            "That is the mean of the target text, where SDS ends, whatever the pixel was. DDS subtracts something "
            "first. What would SDS do to the same pixel under its own text?",
            3.0,
        ),
        Idea(
            lambda found: near(4.2, 0.02)(found) or near(5.2, 0.02)(found),
            "You moved it away from the target's mean by the distance it had, but to the other side. It lies below "
            "the mean of its text: on which side does it end?",
            4.2,
        ),
        Idea(
            near(0.9, 0.02),
            "Half-way between -1.2 and 3: an average of source and target. Look at the line in the right "
            "panel; what is its slope?",
            0.9,
        ),
        Idea(
            lambda found: near(-3.2, 0.02)(found) or near(-4.2, 0.02)(found),
            "It went down, away from the target. Look at the formula again: which mean has which sign?",
            -3.2,
        ),
        Idea(
            near(2.0, 0.02),
            "That is how far it moves. From where?",
            2.0,
        ),
        Idea(
            near(-1.2, 0.02),
            "Then nothing would have been edited. The two texts do differ.",
            -1.2,
        ),
    ),
    hints=(
        "The formula above has two means. What are they, if they are what the texts say?",
        "Every pixel moves by the same: the difference of the means of the two texts.",
        "distil(delta_score, pixel, mean_3, source=...) does it; pixel and source are tensors of (1, 1, 1, 1).",
    ),
    example=0.8,
)


def setting() -> tuple[Any, ...]:
    """A point at which a learner's gradient is tried: field, z, x, t, eps, source, target."""
    values = (1.17, 0.29, -0.73, 0.41, 2.3)  # z, x, eps, source, target
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


def same_text(field: Any, z: Any, x: Any, t: float, eps: Any, source: Any, target: Any) -> Any:  # noqa: ARG001
    """Asked under the target text both times."""
    return delta_score(field, z, x, t, eps, target, target)


def no_brackets(field: Any, z: Any, x: Any, t: float, eps: Any, source: Any, target: Any) -> Any:
    """A - (eps - z) - B - (eps - x)."""
    return delta_score(field, z, x, t, eps, source, target) - 2 * (eps - x)


def turned(field: Any, z: Any, x: Any, t: float, eps: Any, source: Any, target: Any) -> Any:
    """The true velocities as clean minus noise."""
    p, q = points(z, x, t, eps)
    return (field(p, t, target) - (z - eps)) - (field(q, t, source) - (x - eps))


def at(mixed: float, field: Any, z: Any, x: Any, t: float, eps: Any, source: Any, target: Any) -> Any:
    """The model is asked at t, about latents that are mixed for another level."""
    p, q = points(z, x, mixed, eps)
    return (field(p, t, target) - (eps - z)) - (field(q, t, source) - (eps - x))


def other_mix(field: Any, z: Any, x: Any, t: float, eps: Any, source: Any, target: Any) -> Any:
    """Noise level and its rest change places."""
    return at(1 - t, field, z, x, t, eps, source, target)


def without_noise(field: Any, z: Any, x: Any, t: float, eps: Any, source: Any, target: Any) -> Any:
    """The model is asked at the clean latents."""
    return at(0.0, field, z, x, t, eps, source, target)


def weighted(field: Any, z: Any, x: Any, t: float, eps: Any, source: Any, target: Any) -> Any:
    """With the weight of the loop."""
    return (1 - t) * delta_score(field, z, x, t, eps, source, target)


def stepped(field: Any, z: Any, x: Any, t: float, eps: Any, source: Any, target: Any) -> Any:
    """The new z."""
    return z - delta_score(field, z, x, t, eps, source, target)


def small_step(field: Any, z: Any, x: Any, t: float, eps: Any, source: Any, target: Any) -> Any:
    """The new z, with the weight and the rate of the loop."""
    return z - 0.1 * weighted(field, z, x, t, eps, source, target)


def tried(learner: Callable[..., Any]) -> Any:
    """A learner's gradient at the point; one that draws noise of its own is told so."""
    found, again = learner(*setting()), learner(*setting())
    if isinstance(found, torch.Tensor) and not torch.equal(found, again):
        raise AnswerError(
            "Called twice, your function gives two results: does it draw noise? Use eps on both sides."
        )
    return found


def is_like(*wrong: Callable[..., Any]) -> Callable[[Any], bool]:
    """Whether a learner's gradient is that of one of these."""
    return lambda found: any(abs(float(found) - float(each(*setting()))) < 1e-3 for each in wrong)


GRADIENT = Exercise(
    id="08.2",
    title="From SDS to DDS",
    difficulty=2,
    takes="a function of field, z, x, t, eps, source and target that returns a gradient",
    reads=function(tried, "field", "z", "x", "t", "eps", "source", "target"),
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
        Idea(
            is_like(same_text),
            "You asked under the target text at both points. Under which text is there nothing to edit in x?",
            same_text,
        ),
        Idea(
            is_like(no_brackets),
            "Look at the brackets: in A - (eps - z) - B - (eps - x) the last term has the wrong sign. All that is "
            "wrong with x is subtracted, as one.",
            no_brackets,
        ),
        Idea(
            is_like(turned),
            "You compared with z - eps. The velocity points from clean to noise.",
            turned,
        ),
        Idea(
            is_like(other_mix),
            "t and 1 - t have changed places: at t = 0 there should be no noise in the mix.",
            other_mix,
        ),
        Idea(
            is_like(without_noise),
            "The model was asked about latents of which nothing was taken away: without noise, or with noise on "
            "top. How are picture and noise mixed in `opinion`?",
            without_noise,
        ),
        Idea(
            is_like(weighted),
            "That is the gradient times 1 - t. The loop multiplies by that already.",
            weighted,
        ),
        Idea(
            is_like(stepped, small_step),
            "That is z after a step. Return the gradient alone; the loop makes the step.",
            stepped,
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
            lambda found: found in ({"sds", "penalty"}, {"sds", "ball"}),
            "You took one of the spring and the ball, not the other. Both look only at how far z is from x. Does "
            "one of them know more about the text? Compare pixel by pixel.",
            ["sds", "penalty"],
        ),
        Idea(
            lambda found: found == set(NAMES),
            "Was it compared with the source image? The autoencoder changes that by itself, so all five differ "
            "from it. Take the reconstruction.",
            NAMES,
        ),
        Idea(
            lambda found: bool(found) and found <= {"delta", "orthogonal"},
            "Read the question again: does your list hold what changes the portrait, or what keeps it? SDS under "
            "its own text is in the strip of section 3.",
            ["delta", "orthogonal"],
        ),
        Idea(
            lambda found: "sds" not in found,
            "SDS itself is missing. Its result under its own text is in the strip of section 3.",
            ["penalty", "ball"],
        ),
        Idea(
            lambda found: bool({"delta", "orthogonal"} & found),
            "One of your list asks what the source text does to the source. What is left of its gradient when the "
            "target text is the same text?",
            ["sds", "penalty", "ball", "orthogonal"],
        ),
    ),
    hints=(
        "edit = edited(readings[name], target=source_text) for each name.",
        "np.array_equal(edit.image, edit.reconstruction) is exact.",
        "Or ask the methods what they promise: method.exact_at_0.",
    ),
    example=["sds", "penalty", "ball"],
)


def facts_of(edit: Any) -> SimpleNamespace:
    """What the last exercise looks at."""
    if not hasattr(edit, "after"):
        raise AnswerError(f"Got {short(edit)}, which is no edit: give what edited(...) returned.")
    method, measured = edit.recipe["method"], edit.after or {}
    ball = method.get("constraint") == "ball" and method.get("reference") == "noise"
    return SimpleNamespace(
        ball=ball and edit.recipe["mask"] == "none",
        radius=method.get("strength"),
        wish="background" in edit.targets
        and edit.before["background"] == "blue"
        and "yellow" in edit.target_text,
        alone=edit.targets == ["background"],
        background=measured["background"],
        drift=float(edit.drift),
    )


def ended(
    background: str,
    drift: float,
    constraint: str = "ball",
    text: str = "yellow background",
    targets: tuple[str, ...] = ("background",),
) -> SimpleNamespace:
    """An edit as far as the last exercise looks at it."""
    method = {"constraint": constraint, "reference": "noise", "strength": 0.3}
    return SimpleNamespace(
        before={"background": "blue"},
        after={"background": background},
        drift=drift,
        targets=list(targets),
        target_text=text,
        recipe={"method": method, "mask": "none"},
    )


RADIUS = Exercise(
    id="08.4",
    title="How large a ball?",
    difficulty=3,
    takes="the edit that edited(...) returned",
    reads=facts_of,
    right=lambda found: (
        found.ball and found.wish and found.alone and found.background == "yellow" and found.drift <= 0.02
    ),
    praise="So a ball can do it, with the right radius even at less drift than the delta reading. But the radius "
    "belongs to this picture and this wish. A frown asked for a much smaller one: a mouth is few of the latents, a "
    "background many, and the distance counts them all. The delta reading needs no radius.",
    ideas=(
        Idea(
            lambda found: not found.ball,
            "This edit was not made with the ball alone: the exercise is about readings['ball'], without a mask. "
            "Take the cell as it is and change the radius.",
            ended("yellow", 0.015, constraint="none"),
        ),
        Idea(
            lambda found: not found.wish,
            "This edit is about something else: the wish is a yellow background in place of the blue one. Keep "
            "both texts as they are in the cell.",
            ended("blue", 0.03, text="a big frown", targets=("smile",)),
        ),
        Idea(
            lambda found: not found.alone,
            "The two texts differ in more than the background. Keep both as they are in the cell.",
            ended("yellow", 0.015, targets=("background", "smile")),
        ),
        Idea(
            lambda found: found.background == "yellow" and found.drift > 0.1,
            "That is as much drift as without a constraint: the latents hardly get to the edge of so large a ball.",
            ended("yellow", 0.12),
        ),
        Idea(
            lambda found: found.background == "yellow",
            "The background is there, and the ball leaves room for more than that. Make it smaller.",
            ended("yellow", 0.037),
        ),
        Idea(
            lambda found: found.background != "yellow",
            "No yellow background: the ball holds back what you asked for and what you did not, alike. It cannot "
            "tell them apart. What asks for more room, a mouth or a background?",
            ended("blue", 0.004),
        ),
    ),
    hints=(
        "Try a few radii in a loop, and print background and drift.",
        "0.12 is too small, 0.6 too large.",
        "Go from 0.12 upwards in steps of 0.06, and look at each picture.",
    ),
    example=ended("yellow", 0.01),
)

LESSON = Lesson(
    number="08",
    name="score_distillation",
    title="Score distillation: SDS, DDS, CSDS",
    goal="Move the latents of a picture by the opinion of the model, and keep the rest where it is.",
    minutes=50,
    before="notebook 02.",
    objectives=(
        "say what score distillation (SDS) does to a picture, and why it drifts",
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
