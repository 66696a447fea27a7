"""Draw the figures of ``docs/how-to/steer.md``, with the portraits model: ``python -m docs.figures.steer``.

It takes some minutes on two cores, most of them for the images from which the direction of a smile is made.
"""

from __future__ import annotations

from pathlib import Path

import ditlens as dl
from benchmarks.steering import material

HERE = Path(__file__).parent


def main() -> None:
    """The sweep along a smile, and the Gram matrix of all attributes."""
    model = dl.load("portraits")
    dl.gram(model).plot().savefig(HERE / "gram.png", dpi=90)
    smile = material(model, 96).direction("smile")
    prompt = "a portrait of a young clean-shaven person with short brown hair and a blue shirt, no hat"
    result = dl.steer(
        model, smile, [-2, -1, -0.5, 0, 0.5, 1, 2], prompts=prompt, seeds=list(range(4)), sampling_steps=8
    )
    result.plot().savefig(HERE / "steer.png", dpi=90)


if __name__ == "__main__":
    main()
