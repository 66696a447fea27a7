"""What one finished edit is worth, in numbers: a row of the benchmark's table."""

from __future__ import annotations

from collections.abc import Sequence

from ditlens import images
from ditlens.ems.edit import Edit
from ditlens.metrics import continuous, regions
from ditlens.metrics.networks import ImagePair, open_networks
from ditlens.metrics.regions import described
from ditlens.models.model import Model
from ditlens.worlds.world import SuiteItem, Values, World

WORLD = {
    "success": described(
        "target reached", "higher", "share",
        "every changed attribute has the wanted level or value, read by the world's oracle; v1",
    ),
    "effect": described(
        "effect", "higher", "share",
        "share of the way from the reconstruction's value to the centre of the wanted level, in [-1, 1], a "
        "category 0 or 1, mean over the changed attributes, read by the world's oracle; v2",
    ),
    "drift": described(
        "non-target drift", "lower", "range",
        "mean change, from the reconstruction (degree 0) to the result, of the attributes that are not targets and "
        "visible in both, in units of range, a category 0 or 1, read by the world's oracle; v2",
    ),
    "net_drift": described(
        "net drift", "lower", "range",
        "drift less that of the exact result after encoding and decoding: what the oracle and the autoencoder add, "
        "alike for all methods; v1",
    ),
    "residual": described(
        "residual", "lower", "range",
        "mean distance of all attributes, those asked for included, from those of the exact result, where both are "
        "visible, in units of range, a category 0 or 1, read by the world's oracle; v1",
    ),
    "net_residual": described(
        "net residual", "lower", "range", "residual less that of the exact result after encoding and decoding; v1",
    ),
    "drift_from_source": described(
        "drift from the picture given", "lower", "range",
        "the same from the picture before it was encoded: holds the autoencoder's share, alike for all methods; "
        "read by the world's oracle; v1",
    ),
    "text_agreement": described(
        "agreement with the target text", "higher", "share",
        "share of the attributes of the suite's target text that the world's oracle reads in the result; the "
        "in-domain counterpart of CLIP similarity; v2",
    ),
    "vqa": described(
        "describer's answers", "higher", "share",
        "share of the changed attributes for which the shipped describer, asked about the result, gives the wanted "
        "answer; degree 1 only; v1",
    ),
}  # fmt: skip
STRUCTURE = described(
    "structure distance in latents", "lower", "",
    "mean squared difference of the cosine self-similarity of the autoencoder's latents; v1",
)  # fmt: skip
PATH = {
    "triangle_deficit": described(
        "triangle deficit", "lower", "share",
        "largest detour of three neighbours among the reconstruction and the results of one run at degrees up to "
        "1, root mean square of pixels; v1",
    ),
    "straightness": described(
        "length of the path over its span", "lower", "x",
        "sum of the steps over the distance of the ends, same pictures and distance; v1",
    ),
}  # fmt: skip


class Scorer:
    """Scores edits of a model with every metric that can be computed here."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._exact: tuple[str, Values | None] = "", None
        self.networks, self._without = open_networks()

    def about(self) -> dict[str, dict[str, str]]:
        """Title, direction, unit and identity of every metric, by name."""
        side = self.model.side
        size = f"{side} x {side}" if self.model.square else f"about {side} x {side}, each in its own shape"
        shown = {name: metric.about for name, metric in regions.METRICS.items()}
        for network in self.networks:
            shown |= network.about
        sized = {n: {**a, "identity": f"{a['identity']}; pictures of {size}"} for n, a in shown.items()}
        return {**(WORLD if self.model.world else {}), **sized, "structure": dict(STRUCTURE), **PATH}

    def absent(self) -> dict[str, str]:
        """Metrics that people will look for and that are not computed, with the reason."""
        world = {} if self.model.world else dict.fromkeys(WORLD, "the model has no world that measures")
        return {**self._without, **world}

    def score(self, item: SuiteItem, edit: Edit) -> dict[str, float]:
        """All metrics of one edit, by name; NaN where one has no value."""
        world = self.model.world
        result: dict[str, float] = {} if world is None else in_world(world, item, edit, self.exact(item))
        before, after = images.to_tensor(edit.source_image), images.to_tensor(edit.image)
        mask = item.mask
        if mask is not None and mask.shape[-2:] != before.shape[-2:]:
            height, width = item.image().shape[-2:]
            mask = images.fit_mask(mask, (width, height), edit.source_image.size).gt(0).float()
        for name, metric in regions.METRICS.items():
            result[name] = float("nan") if mask is None else float(metric.compute(before, after, mask)[0])
        for network in self.networks:
            result |= network.score(ImagePair(before, after, mask, item.target_text or edit.target_text))
        moved = regions.structure_distance(edit.plan.latents.float(), edit.latents.float())
        result["structure"] = float(moved[0])
        return result

    def exact(self, item: SuiteItem) -> Values | None:
        """What the oracle reads in the exact result after encoding and decoding; None where nobody can draw it."""
        world, model = self.model.world, self.model
        if world is None or item.draw is None:
            return None
        if self._exact[0] != item.id:  # an item is scored at several degrees
            kept = images.to_image(model.decode(model.encode_image(model.prepare(item.draw()))))
            self._exact = item.id, world.measure(images.to_tensor(kept))[0]
        return self._exact[1]

    def path(self, edits: Sequence[Edit]) -> dict[str, float]:
        """How straight the way from the reconstruction through the results of one run is; NaN without a way."""
        way = [edit for edit in sorted(edits, key=lambda edit: edit.degree) if 0 < edit.degree <= 1]
        if len(way) < 2:
            return dict.fromkeys(PATH, float("nan"))
        pictures = [
            images.to_tensor(image) for image in (way[0].plan.reconstruction, *(e.image for e in way))
        ]
        return {
            "triangle_deficit": continuous.triangle_deficit(pictures),
            "straightness": continuous.straightness(pictures),
        }


def in_world(world: World, item: SuiteItem, edit: Edit, exact: Values | None = None) -> dict[str, float]:
    """What the model's world measures of an edit; NaN without wanted changes.

    Args:
        world: The world.
        item: What was asked.
        edit: What was made of it.
        exact: What the oracle reads in the exact result, see `Scorer.exact`.
    """
    given, after = edit.before, edit.after
    assert given is not None and after is not None
    if not item.wanted:
        return dict.fromkeys(WORLD, float("nan"))
    before = world.measure(images.to_tensor(edit.plan.reconstruction))[0]
    asked, drift = edit.degree == 1, world.drift(before, after, item.wanted)
    own_drift = own = residual = float("nan")
    if exact is not None:
        own_drift, own = world.drift(before, exact, item.wanted), world.drift(item.exact, exact, ())
        residual = world.drift(item.exact, after, ())
    return {
        "success": float(not world.missed(after, item.wanted)),
        "effect": world.progress(before, after, item.wanted),
        "drift": drift,
        "net_drift": drift - own_drift,
        "residual": residual,
        "net_residual": residual - own,
        "drift_from_source": world.drift(given, after, item.wanted),
        "text_agreement": world.agreement(item.target_text or edit.target_text, after),
        "vqa": world.answers(images.to_tensor(edit.image), item.wanted) if asked else float("nan"),
    }
