"""Pairs of images and texts that differ in one attribute and in nothing else."""

from __future__ import annotations

from ditlens.analysis.prompts import Ends, ends_of, people, seen_levels, world_of
from ditlens.models.model import Model
from ditlens.worlds.world import SuiteItem


def counterfactuals(
    model: Model, attribute: str, between: Ends | None = None, count: int = 12, seed: int = 0
) -> list[SuiteItem]:
    """Edits of one attribute with exact answers: each of `count` people in both directions, one after the other.

    The image, the image as it should become, their texts and the region that may change come from the model's
    world. A text names every attribute that can be seen.

    Args:
        model: A model with a world that can draw.
        attribute: What changes.
        between: The two levels, see `ends_of`.
        count: Number of people; there are twice as many edits.
        seed: Decides who they are.

    Raises:
        ModelError: If the model has no world.
        UnknownAttributeError: If there is no such attribute.
        SettingError: If `between` are not two of its levels.

    Example:
        >>> there, back = counterfactuals(model, "hat", count=1)
        >>> there.wanted, back.wanted, there.target_text == back.source_text
        ({'hat': 1}, {'hat': 0}, True)
    """
    world = world_of(model, "a list of (image, its text, the text with the attribute flipped)")
    ends = ends_of(world, attribute, between)
    items = []
    for k, both in enumerate(people(world, attribute, ends, count, seed)):
        seen = seen_levels(world, both.values())
        texts = {level: world.caption({**seen, attribute: level}) for level in both}
        for old, new in (ends, ends[::-1]):
            before, after, wanted = both[old], both[new], {attribute: new}
            items.append(SuiteItem(
                f"{attribute}-{k}-{new}", attribute, "", texts[old], texts[new],
                lambda values=before: world.draw([values], model.side),  # type: ignore[misc]
                world.change_mask(before, wanted, model.side), wanted, before, after,
                lambda values=after: world.draw([values], model.side),  # type: ignore[misc]
            ))  # fmt: skip
    return items
