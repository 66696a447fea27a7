"""The text half of *manipulate*: move a prompt's embedding along an editing direction.

A diffusion transformer reads its prompt by two routes: the token matrix E (joint attention) and one pooled
vector p (it modulates every block). An edit from a source text c0 to a target text c1 is a straight line::

    c(degree) = c0 + degree * n,     n = c1 - c0 = (E1 - E0, p1 - p0)

degree 0 is the source, 1 the target, above 1 exaggerates, below 0 goes the other way. This linear step is how
public summaries of EMS (arXiv 2408.13335) describe it. Moving the two routes, or what single text encoders write,
separately, and the range of degrees allowed here, are choices of this package ("EMS-style").
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ditlens.arguments import FLAG, NUMBER, Kind, instance, list_of, takes
from ditlens.errors import SettingError
from ditlens.models.embedding import TextEmbedding, move
from ditlens.models.encoders import Encoder, only

PARTS = ("tokens", "pooled")
EMBEDDING = instance("a text embedding, model.encode_text('a big smile')", TextEmbedding)
ROUTES = Kind(
    'one for each route, {"tokens": 0.5, "pooled": 1.0}',
    lambda value: isinstance(value, Mapping) and all(map(NUMBER.fits, value.values())),
)
ENCODERS = list_of(instance("", Encoder), "text encoders, ditlens.models.encoders.choose(model, {'t5'})")


@takes(
    source=EMBEDDING, target=EMBEDDING, degree=NUMBER | ROUTES, tokens=FLAG, pooled=FLAG, encoders=ENCODERS,
    low=NUMBER, high=NUMBER,
)  # fmt: skip
def manipulate(
    source: TextEmbedding,
    target: TextEmbedding,
    degree: float | Mapping[str, float],
    *,
    tokens: bool = True,
    pooled: bool = True,
    encoders: Collection[Encoder] | None = None,
    low: float = -2.0,
    high: float = 3.0,
) -> TextEmbedding:
    """Move the source text towards the target text by an editing degree: c0 + degree * (c1 - c0).

    At degree 0 the tensors of `source` themselves come back, at degree 1 those of `target`, bit for bit.
    Equal shapes do not prove that the texts are aligned: encoders pad. If a word is inserted, every later row
    is a difference between unrelated words; compare `source.mask.sum(1)` with the target's to see it.

    Args:
        source: Embedding of the text that describes the image.
        target: Embedding of the text that describes the wanted image.
        degree: One number for both routes, or {"tokens": ..., "pooled": ...}; a route that is not named
            keeps the source.
        tokens: False keeps the source's token matrix.
        pooled: False keeps the source's pooled vector.
        encoders: Text encoders whose channels, rows and part of the pooled vector move, from
            `ditlens.models.encoders.choose(model, {"t5"})`; everything else keeps the source. None: all.
        low: Smallest degree allowed. Far outside [0, 1] embeddings leave what the model was trained on.
        high: Largest degree allowed.

    Returns:
        The manipulated embedding, shapes as `source`.

    Raises:
        SettingError: If a degree is out of [low, high], a route is unknown, or the texts are not aligned.

    Example:
        >>> source, target = model.encode_text("a slight smile"), model.encode_text("a big smile")
        >>> moved = dl.manipulate(source, target, 0.5, pooled=False)
        >>> torch.allclose(moved.tokens, (source.tokens + target.tokens) / 2, atol=1e-6)
        True
        >>> moved.pooled is source.pooled
        True
    """
    named = dict(degree) if isinstance(degree, Mapping) else dict.fromkeys(PARTS, degree)
    if unknown := set(named) - set(PARTS):
        raise SettingError(
            f'Unknown route {sorted(map(str, unknown))}: degree takes the keys "tokens" and "pooled".'
        )
    for part, value in named.items():
        if not low <= value <= high:
            raise SettingError(
                f"degree {value:g} of {part} is outside [{low:g}, {high:g}]; "
                "0 is the source and 1 the target. Pass low= and high= to go further."
            )
    switched = {"tokens": tokens, "pooled": pooled}
    degrees = {part: named.get(part, 0.0) if switched[part] else 0.0 for part in PARTS}
    return only(source, move(source, (target, degrees["tokens"], degrees["pooled"])), encoders)
