"""A prior of slices, asked about a volume: chunk by chunk, in the units of images, with the noise always added to them.

Whatever the schedule, ``x / alpha`` is an image with noise of the level ``sigma / alpha`` added. In these variables, and with
images around [0, 1] in place of the network's range, every denoiser of the core says the same thing: what a volume
``x = x_0 + sigma eps`` was before the noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from medical.samplers.run import Run
from prior.denoiser import Denoiser
from prior.grids import finite_ends

__all__ = ["SlicePrior"]


@dataclass(eq=False)
class SlicePrior:
    """``model`` for slices (D, C, H, W) around [0, 1], real or complex.

    Complex slices are shown to a network of two channels as real and imaginary part, and to any other as slices of their
    own, as Score-MRI does (Chung & Ye 2022).

    Attributes
    ----------
    model: any denoiser.
    run: the chunks, and who works on them.
    report: called after every chunk.
    calls: passes through the network so far, a slice.
    """

    model: Denoiser
    run: Run
    report: Callable[[], None] | None = None
    calls: int = field(default=0, init=False)

    @property
    def scale(self) -> float:
        """From black to white in the network's range."""
        low, high = self.model.data_range
        return high - low

    @property
    def highest(self) -> float:
        """The greatest noise level that the model knows, in units of images."""
        return float(self.model.schedule.level(finite_ends(self.model.schedule)[0])) / self.scale

    @property
    def lowest(self) -> float:
        """The least noise level that the model knows, in units of images."""
        return float(self.model.schedule.level(self.model.schedule.t_min)) / self.scale

    def time(self, sigma: float) -> Tensor:
        """The model's time at which images carry noise of the level ``sigma``."""
        return self.model.schedule.time(sigma * self.scale)

    def eps(self, x: Tensor, sigma: float) -> Tensor:
        """The noise in ``x = x_0 + sigma eps``, (D, C, H, W); the score is ``-eps / sigma``."""
        self.calls += 1
        return self.run.map(lambda part: self.eps_of(x[part], sigma), len(x), done=self.report)

    def eps_of(self, x: Tensor, sigma: float, condition: Tensor | None = None) -> Tensor:
        """The same for one chunk (n, C, H, W), differentiable; it is not counted. ``condition`` goes to the network."""
        shown = self._shown(x)
        t = self.time(sigma)
        alpha = self.model.schedule.alpha(t).to(shown)
        eps = self.model(alpha * self.model.to_network(shown), t, condition).eps
        return self._seen(eps, x)

    @property
    def _channels(self) -> int | None:
        network: Any = self.model.network
        return getattr(network, "in_channels", getattr(getattr(network, "config", None), "in_channels", None))

    def _shown(self, x: Tensor) -> Tensor:
        """Real slices (n, C', H, W) for the network; see the class."""
        if not x.is_complex():
            return x
        parts = torch.view_as_real(x).movedim(-1, 2)  # (n, C, 2, H, W)
        return parts.flatten(1, 2) if self._channels == 2 * x.shape[1] else parts.flatten(0, 2)[:, None]

    def _seen(self, eps: Tensor, x: Tensor) -> Tensor:
        if not x.is_complex():
            return eps
        parts = eps.reshape(x.shape[0], x.shape[1], 2, *x.shape[2:])
        return torch.view_as_complex(parts.movedim(2, -1).contiguous())
