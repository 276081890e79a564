"""What a network of the shifted chain predicts, and the network seen through one call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from prior.schedules import ShiftedChain

__all__ = ["PREDICTIONS", "SCALINGS", "Condition", "Prediction", "Shares", "ShiftedDenoiser", "dtype_of"]


@dataclass(frozen=True, eq=False)
class Shares:
    """What x_t is made of: ``clean x_0 + eta y + std eps``, with ``clean = 1 - eta`` and ``std = kappa sqrt(eta)``.

    clean is kept beside eta because 1 - eta loses digits once eta is rounded: eta ends at 0.98.
    """

    eta: Tensor
    clean: Tensor
    std: Tensor

    @classmethod
    def of(cls, schedule: ShiftedChain) -> Shares:
        """All steps, each float64 (T,)."""
        return cls(schedule.eta, 1 - schedule.eta, schedule.std)

    @classmethod
    def at(cls, schedule: ShiftedChain, t: int | Tensor, like: Tensor) -> Shares:
        """Those of times ``t``, ready to multiply ``like``, as :meth:`ShiftedChain.at`."""
        every = cls.of(schedule)
        return cls(*(schedule.at(table, t, like) for table in (every.eta, every.clean, every.std)))


@dataclass(frozen=True)
class Prediction:
    """One meaning of the network's output: its target, and the clean image that follows from an output.

    Attributes
    ----------
    target: ``target(x0, y, eps, shares)``, what a perfect network answers.
    x0: ``x0(out, x_t, y, shares)``.
    unit: ``unit(shares)``, by which errors of the output are divided in training.
    gain: ``gain(shares)``, the error of x0 that an error of one unit makes.
    """

    target: Callable[[Tensor, Tensor, Tensor, Shares], Tensor]
    x0: Callable[[Tensor, Tensor, Tensor, Shares], Tensor]
    unit: Callable[[Shares], Tensor]
    gain: Callable[[Shares], Tensor]

    def weights(self, schedule: ShiftedChain) -> Tensor:
        """``w_t`` of the squared error in units, float64 (T,), with which the loss is the variational bound.

        The bound is one, so that with these weights every prediction has the same loss for the same x0.
        """
        return schedule.bound_weights * self.gain(Shares.of(schedule)) ** 2


def _one(shares: Shares) -> Tensor:
    return torch.ones_like(shares.std)


PREDICTIONS: dict[str, Prediction] = {
    "xstart": Prediction(
        target=lambda x0, y, eps, s: x0,
        x0=lambda out, x, y, s: out,
        unit=_one,
        gain=_one,
    ),
    "residual": Prediction(
        target=lambda x0, y, eps, s: y - x0,
        x0=lambda out, x, y, s: y - out,
        unit=_one,
        gain=_one,
    ),
    "epsilon": Prediction(
        target=lambda x0, y, eps, s: eps,
        x0=lambda out, x, y, s: (x - s.std * out - s.eta * y) / s.clean,
        unit=_one,
        gain=lambda s: s.std / s.clean,
    ),
    "epsilon_scale": Prediction(
        target=lambda x0, y, eps, s: s.std * eps,
        x0=lambda out, x, y, s: (x - out - s.eta * y) / s.clean,
        unit=lambda s: s.std,
        gain=lambda s: s.std / s.clean,
    ),
}
"""``xstart`` is x_0, as in every released network, ``residual`` y - x_0, ``epsilon`` eps, ``epsilon_scale`` std eps."""

SCALINGS: dict[str, Callable[[Shares, float], Tensor]] = {
    "latent": lambda shares, kappa: torch.sqrt(kappa**2 * shares.eta + 1),
    "pixel": lambda shares, kappa: 3 * shares.std + 1,
    "none": lambda shares, kappa: _one(shares),
}
"""What x_t is divided by before the network sees it, of its shares and kappa.

``latent`` makes the variance of latents one, if theirs is; ``pixel``, for chains of images themselves, keeps all but 0.3 % of
the values within [-1, 1].
"""


@dataclass(frozen=True, eq=False)
class Condition:
    """The degraded image as the chain and its network know it.

    Attributes
    ----------
    y: where the chain ends, of the shape of x (B, C, H, W): the latents of the degraded image, enlarged to the size sought.
    lq: what the network sees, (B, c, h, w): the degraded image in [-1, 1], at its own size.
    mask: (B, 1, h, w), 1 where the image is unknown and -1 where it is known; None for networks without.
    context: what the network computes of lq alone, see :meth:`ShiftedDenoiser.prepared`.
    """

    y: Tensor
    lq: Tensor
    mask: Tensor | None = None
    context: Tensor | None = None


def dtype_of(module: object, like: Tensor) -> torch.dtype:
    """The dtype of the weights of ``module``; that of ``like`` where it has none."""
    return next((p.dtype for p in module.parameters()), like.dtype) if isinstance(module, nn.Module) else like.dtype


class ShiftedDenoiser(nn.Module):
    """A network with its chain and the meaning of its output; ``model(x, t, condition)`` costs one network evaluation.

    The chain runs in the dtype of x, the network in that of its weights.

    Parameters
    ----------
    network: called as ``network(x, t, lq)``, or ``network(x, t, lq, mask)`` where there is a mask, with x (B, C, H, W) divided
        by the scaling and t (B,), the whole step of the chain it was trained on. One with a method ``context(lq)`` is also
        called with ``context=`` what that gave.
    schedule: how its training images were noised.
    prediction: a name in ``PREDICTIONS``.
    scaling: a name in ``SCALINGS``.
    """

    def __init__(
        self, network: nn.Module, schedule: ShiftedChain, *, prediction: str = "xstart", scaling: str = "latent"
    ) -> None:
        super().__init__()
        if prediction not in PREDICTIONS:
            raise ValueError(f"prediction must be one of {', '.join(PREDICTIONS)}, got {prediction!r}")
        if scaling not in SCALINGS:
            raise ValueError(f"scaling must be one of {', '.join(SCALINGS)}, got {scaling!r}")
        self.network, self.schedule, self.prediction, self.scaling = network, schedule, prediction, scaling

    def prepared(self, condition: Condition) -> Condition:
        """With the network's ``context(lq)``, which every step of a chain shares; as it is where the network has none."""
        context = getattr(self.network, "context", None)
        if context is None:
            return condition
        return replace(condition, context=context(condition.lq.to(dtype_of(self.network, condition.lq))))

    def output(self, x: Tensor, t: int | Tensor, condition: Condition) -> Tensor:
        """What the network says at ``x`` (B, C, H, W), noised to time ``t``, a whole number or (B,)."""
        if x.shape != condition.y.shape:
            raise ValueError(f"condition.y must have the shape of x, {tuple(x.shape)}, got {tuple(condition.y.shape)}")
        scale = SCALINGS[self.scaling](Shares.at(self.schedule, t, x), self.schedule.kappa)
        time = self.schedule.network_time(t).round().long().to(x.device).expand(len(x))
        precision = dtype_of(self.network, x)
        given = (x.to(precision) for x in (condition.lq, condition.mask) if x is not None)
        known = {} if condition.context is None else {"context": condition.context.to(precision)}
        return self.network((x / scale).to(precision), time, *given, **known).to(x.dtype)

    def x0(self, out: Tensor, x: Tensor, t: int | Tensor, condition: Condition) -> Tensor:
        """The clean image that follows from an output at ``x``."""
        return PREDICTIONS[self.prediction].x0(out, x, condition.y, Shares.at(self.schedule, t, x))

    def forward(self, x: Tensor, t: int | Tensor, condition: Condition) -> Tensor:
        """The clean image (B, C, H, W) predicted at ``x``, noised to time ``t`` on the way to ``condition.y``."""
        return self.x0(self.output(x, t, condition), x, t, condition)
