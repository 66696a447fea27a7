"""A third text encoder whose output is zero.

SD3's pipeline has three text encoders, and diffusers does not accept their absence in ``model_index.json``, only
as an argument of `from_pretrained`. So the folder of a model with two encoders holds a tiny T5 whose output is
exactly zero, like the rows of zeros that the pipeline puts in the place of an absent encoder. The stock call then
needs no arguments. `ditlens.load` leaves it out, and saves these rows.
"""

from __future__ import annotations

from typing import Any


def build_silent_encoder(width: int) -> tuple[Any, Any]:
    """A tokenizer and a T5 encoder whose output is zero for every text.

    Args:
        width: Width of the rows; the transformer's ``joint_attention_dim``.

    Returns:
        A `T5Tokenizer` without words, and the `T5EncoderModel`.
    """
    import torch
    from transformers import T5Config, T5EncoderModel, T5Tokenizer

    tokenizer = T5Tokenizer(extra_ids=0)
    config = T5Config(
        vocab_size=len(tokenizer), d_model=width, d_kv=1, d_ff=1, num_layers=1, num_heads=1,
        pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    encoder = T5EncoderModel(config).eval()
    torch.nn.init.zeros_(encoder.encoder.final_layer_norm.weight)  # T5's last factor
    return tokenizer, encoder
