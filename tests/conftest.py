"""What every test may rely on: no network, no model hub, few threads, a tiny portraits model."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ditlens.models.model import Model

# Set before anything imports torch or transformers; subprocesses of the tests inherit it.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", str(min(2, os.cpu_count() or 1)))
os.environ.setdefault("MPLBACKEND", "agg")


class NetworkBlockedError(AssertionError):
    """A test reached for the network."""


def is_local(address: Any) -> bool:
    """Whether a socket address stays on this machine: a path (Unix sockets) or the loopback."""
    if not isinstance(address, tuple):
        return True
    host = str(address[0])
    return host in ("localhost", "::1", "") or host.startswith("127.")


@pytest.fixture(autouse=True, scope="session")
def network_guard() -> Iterator[None]:
    """Let sockets connect to this machine only."""

    def guarded(connect: Any) -> Any:
        def checked(self: socket.socket, address: Any) -> Any:
            if not is_local(address):
                raise NetworkBlockedError(f"a test tried to connect to {address}: tests run without network")
            return connect(self, address)

        return checked

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded(socket.socket.connect))
        patch.setattr(socket.socket, "connect_ex", guarded(socket.socket.connect_ex))
        yield


@pytest.fixture(scope="session")
def portraits_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A portraits model of the real classes and layout, tiny and untrained; read-only: do not write into it."""
    import torch
    from diffusers import (
        AutoencoderKL,
        FlowMatchEulerDiscreteScheduler,
        SD3Transformer2DModel,
        StableDiffusion3Pipeline,
    )

    from ditlens.train import mmdit, text, vae
    from ditlens.train.silent import build_silent_encoder
    from ditlens.worlds.portraits.oracle import Oracle

    folder = tmp_path_factory.mktemp("models") / "portraits"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tokenizer = text.build_tokenizer()
        encoders = text.build_encoders(tokenizer)
        # The scale, the shifts and the widths are odd on purpose: nothing may rely on 1, 0 or equal numbers.
        autoencoder = AutoencoderKL(
            **vae.CONFIG | {"block_out_channels": (4, 4, 8, 8), "scaling_factor": 1.7, "shift_factor": 0.1}
        )
        transformer = SD3Transformer2DModel(
            **mmdit.CONFIG | {"num_layers": 2, "num_attention_heads": 2, "caption_projection_dim": 64}
        )
        tokenizer_3, encoder_3 = build_silent_encoder(mmdit.CONFIG["joint_attention_dim"])
        oracle = Oracle((4, 8, 8, 8))
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    StableDiffusion3Pipeline(
        transformer=transformer, scheduler=scheduler, vae=autoencoder, text_encoder=encoders[0],
        tokenizer=tokenizer, text_encoder_2=encoders[1], tokenizer_2=tokenizer, text_encoder_3=encoder_3,
        tokenizer_3=tokenizer_3,
    ).save_pretrained(folder)  # fmt: skip
    oracle.save(folder / "oracle")
    settings = {"world": "portraits", "steps": 4, "guidance": 2.0}
    (folder / "ditlens.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="session")
def portraits(portraits_folder: Path) -> Model:
    """The model of `portraits_folder`, on the CPU. Tests share it: leave it as it is."""
    from ditlens.models.loading import load

    return load(portraits_folder, device="cpu")


@pytest.fixture
def wrong_types(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not check annotations: the test gives ditlens an argument of a wrong type on purpose."""
    import jaxtyping

    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
