"""Worlds in which every quantity of the flow is known in closed form: a test bed without a network.

Each world is a `ditlens.flow.VelocityField`. Its *text* is the mean of the images that it describes: texts can
be interpolated, extrapolated and guided like embeddings, and the right answer of every edit is known.
With sigma written t as in papers, data N(mu, s^2 I) and V(t) = (1 - t)^2 s^2 + t^2::

    latents at t   ~ N((1 - t) mu, V(t) I)
    v(x, t, mu)    = k(t) (x - (1 - t) mu) - mu,     k(t) = (t - (1 - t) s^2) / V(t)

v is linear in mu. That is why guidance acts as a shifted mean, ``mu_w = mu_null + w (mu - mu_null)``, and why
FlowEdit is exact here for every step count. `MixtureWorld` is the bed for everything that is not linear.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from ditlens.errors import SettingError
from ditlens.flow import Latents, check_sigma

Means: TypeAlias = Float[Tensor, "#batch #channels #height #width"]
"""Texts of a Gaussian world: means that broadcast to the latents, e.g. (1, channels, 1, 1)."""


@dataclass(frozen=True)
class GaussianWorld:
    """Images of a text are N(mean, std^2), independent in every element; the text is the mean.

    >>> world, x, text = GaussianWorld(0.5), torch.full((1, 1, 1, 1), 3.0), torch.full((1, 1, 1, 1), 2.0)
    >>> world(x, 0.5, text)
    tensor([[[[0.4000]]]])
    >>> world.flow(x, 0.5, 0.0, text)
    tensor([[[[3.7889]]]])

    Args:
        std: Standard deviation s > 0 of the data, the same for all texts.

    Raises:
        SettingError: If std is not positive.
    """

    std: float = 1.0

    def __post_init__(self) -> None:
        if not self.std > 0:
            raise SettingError(f"std must be positive; got {self.std:g}. For point-like data try 1e-3.")

    def variance(self, sigma: float) -> float:
        """V(t) = (1 - t)^2 s^2 + t^2, the variance of latents at noise level sigma."""
        check_sigma(sigma)
        return (1 - sigma) ** 2 * self.std**2 + sigma**2

    def gain(self, sigma: float) -> float:
        """k(t) = (t - (1 - t) s^2) / V(t) = V'(t) / (2 V(t)): how the velocity grows away from the mean."""
        return (sigma - (1 - sigma) * self.std**2) / self.variance(sigma)

    def __call__(self, latents: Latents, sigma: float, text: Means) -> Latents:
        """Return the exact velocity E[noise - clean | latents]."""
        return self.gain(sigma) * (latents - (1 - sigma) * text) - text

    def log_density(self, latents: Latents, sigma: float, text: Means) -> Float[Tensor, " batch"]:
        """Log density of noisy latents: the exact marginal N((1 - t) mu, V(t))."""
        variance = self.variance(sigma)
        square = (latents - (1 - sigma) * text).square().flatten(1).sum(1)
        return -square / (2 * variance) - latents[0].numel() / 2 * math.log(2 * math.pi * variance)

    def flow(self, latents: Latents, start: float, end: float, text: Means) -> Latents:
        """Solve the flow ODE from sigma `start` to sigma `end` exactly, in either direction.

        The deviation from the moving mean keeps its size in standard deviations::

            x(end) = (1 - end) mu + sqrt(V(end) / V(start)) (x(start) - (1 - start) mu)
        """
        stretch = math.sqrt(self.variance(end) / self.variance(start))
        return (1 - end) * text + stretch * (latents - (1 - start) * text)


@dataclass(frozen=True)
class TwoFactorWorld(GaussianWorld):
    """A Gaussian world whose mean has two factors: ``mean(a, b) = a A + b B``.

    A and B are patterns of unit length over the latents. At angle 0 they are orthogonal, so the factors are
    disentangled by construction; the angle rotates B towards A, which calibrates a metric of disentanglement:
    raising `a` by 1 moves the reading of b by sin(angle).

    >>> tilted = TwoFactorWorld(shape=(3, 2, 2), angle=30)
    >>> tilted.read(tilted.text(1.0, 0.0))
    tensor([[1.0000, 0.5000]], dtype=torch.float64)

    Args:
        std: Standard deviation of the data.
        shape: Shape (C, H, W) of one item's latents, at least 2 elements.
        angle: Rotation of B towards A in degrees, 0 (orthogonal) to 90 (the same pattern).

    Raises:
        SettingError: If std, shape or angle is out of range.
    """

    shape: tuple[int, int, int] = (4, 4, 4)
    angle: float = 0.0
    a: Float[Tensor, "channels height width"] = field(init=False, repr=False, compare=False)
    b: Float[Tensor, "channels height width"] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        size = math.prod(self.shape)
        if not 0 <= self.angle <= 90 or size < 2:
            raise SettingError(f"angle must lie in 0..90 degrees and shape have 2 elements; got {self}.")
        first, second = torch.zeros(2, size, dtype=torch.float64, device="cpu")
        first[: size // 2] = 1  # half of the elements each: no overlap, hence orthogonal
        second[size // 2 :] = 1
        first, second = first / first.norm(), second / second.norm()
        radians = math.radians(self.angle)
        object.__setattr__(self, "a", first.reshape(self.shape))
        turned = math.cos(radians) * second + math.sin(radians) * first
        object.__setattr__(self, "b", turned.reshape(self.shape))

    def text(self, a: float, b: float) -> Float[Tensor, "1 channels height width"]:
        """Write the text "a of the first factor, b of the second": its mean, in float64."""
        return (a * self.a + b * self.b).unsqueeze(0)

    def read(self, latents: Latents) -> Float[Tensor, "batch 2"]:
        """Read both factors off latents by projection: A'x and B'x."""
        patterns = torch.stack([self.a, self.b]).flatten(1).to(latents)
        return latents.flatten(1) @ patterns.T


@dataclass(frozen=True)
class MixtureWorld:
    """Images of a text are a mixture of Gaussians; the text is the tensor of all their means.

    With responsibilities ``r_j(x, t) ~ w_j exp(-|x - (1 - t) mu_j|^2 / (2 V(t)))``, summing to 1::

        v(x, t) = sum_j r_j(x, t) v_j(x, t),     v_j the velocity of the Gaussian with mean mu_j

    The responsibilities make the response to an edit non-linear: small degrees may stay within a mode.

    >>> text = torch.tensor([-2.0, 2.0]).reshape(1, 2, 1, 1, 1)  # the means of two modes
    >>> MixtureWorld((0.25, 0.75)).responsibilities(torch.zeros(1, 1, 1, 1), 0.5, text)
    tensor([[0.2500, 0.7500]])

    Args:
        weights: Positive weight of every mode, in proportion; their number is the number of modes K.
        std: Standard deviation within each mode.

    Raises:
        SettingError: If a weight or std is not positive.
    """

    weights: tuple[float, ...] = (0.5, 0.5)
    std: float = 1.0

    def __post_init__(self) -> None:
        if not self.weights or min(self.weights) <= 0:
            raise SettingError(f"Give one positive weight per mode; got {self.weights}.")
        GaussianWorld(self.std)  # checks std

    def _log_parts(self, latents: Latents, sigma: float, text: Tensor) -> Float[Tensor, "batch modes"]:
        """Log of weight times density of every mode."""
        if text.ndim != latents.ndim + 1 or text.shape[1] != len(self.weights):
            raise SettingError(
                f"The text of this mixture has shape (batch, {len(self.weights)} modes, C, H, W); "
                f"got {tuple(text.shape)} for latents {tuple(latents.shape)}."
            )
        world = GaussianWorld(self.std)
        shares = torch.tensor(self.weights, dtype=latents.dtype, device=latents.device)
        parts = [world.log_density(latents, sigma, mean) for mean in text.unbind(1)]
        return torch.stack(parts, 1) + (shares / shares.sum()).log()

    def responsibilities(self, latents: Latents, sigma: float, text: Tensor) -> Float[Tensor, "batch modes"]:
        """How likely each mode produced the latents; rows sum to 1."""
        return self._log_parts(latents, sigma, text).softmax(1)

    def log_density(self, latents: Latents, sigma: float, text: Tensor) -> Float[Tensor, " batch"]:
        """Log density of noisy latents under the whole mixture."""
        return self._log_parts(latents, sigma, text).logsumexp(1)

    def __call__(self, latents: Latents, sigma: float, text: Tensor) -> Latents:
        """Return the exact velocity for means `text`, (1 or batch, modes, channels, height, width)."""
        shares = self.responsibilities(latents, sigma, text)
        mean = (shares[:, :, None, None, None] * text).sum(1)
        return GaussianWorld(self.std)(latents, sigma, mean)  # v_j is linear in mu_j: average the means
