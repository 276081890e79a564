"""From series to what the network sees: a scaled window, its lags, and what of both is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

__all__ = ["Window", "WindowAssembly", "filled", "lagged"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Window:
    """A batch of scaled windows of ``L = context + prediction`` steps.

    Channel 0 is the series, the others are its lags; what is not known is 0 in ``x`` and in ``observed``.

    Attributes
    ----------
    x: (B, L, C), divided by ``scale``.
    observed: (B, L, C) of 0 and 1. A lag channel is observed where the value it repeats is.
    scale: (B, 1), positive, in the unit of the series.
    context: number of steps before the forecast begins.
    features: (B, L, F), conditioning that is never noised, or None.
    """

    x: Tensor
    observed: Tensor
    scale: Tensor
    context: int
    features: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)

    def repeat(self, paths: int) -> Window:
        """Each series ``paths`` times, one after the other: entry ``b paths + i`` is path i of series b."""
        if paths < 1:
            raise ValueError(f"paths must be at least 1, got {paths}")
        features = None if self.features is None else self.features.repeat_interleave(paths, 0)
        x, observed, scale = (part.repeat_interleave(paths, 0) for part in (self.x, self.observed, self.scale))
        return replace(self, x=x, observed=observed, scale=scale, features=features)

    def to(self, like: Tensor) -> Window:
        """The window on the device and in the dtype of ``like``."""
        features = None if self.features is None else self.features.to(like)
        return replace(self, x=self.x.to(like), observed=self.observed.to(like), scale=self.scale.to(like), features=features)

    def with_lags_observed(self) -> Window:
        """The window with every lag channel marked as observed, also where it repeats unknown values.

        The released refinement reads its mask so. For lags shorter than the forecast, zeros then pass for observations.
        """
        observed = self.observed.clone()
        observed[..., 1:] = 1
        return replace(self, observed=observed)

    def series(self, x: Tensor) -> Tensor:
        """Channel 0 of ``x`` (B S, L, C), S paths a series as in :meth:`repeat`, in the unit of the series: (B, S, L)."""
        if not len(self) or len(x) % len(self):
            raise ValueError(f"x must hold the same number of paths of each of {len(self)} series, got {len(x)} entries")
        return x[..., 0].unflatten(0, (len(self), -1)) * self.scale[:, None]

    def forecast(self, x: Tensor) -> Tensor:
        """The future part of :meth:`series`, (B, S, prediction)."""
        return self.series(x)[..., self.context :]


@dataclass(frozen=True, kw_only=True)
class WindowAssembly:
    r"""How windows are cut and laid out.

    A batch is one sequence a series, ``s = past ++ future``, the past having ``context_length + max(lags)`` steps. With N its
    length and L that of the window, channel 0 at position j is ``s[N - L + j]``, and the channel of lag l is
    ``s[N - L + j - l]``. For lags shorter than the forecast some of the latter lie in the future: true in training, unknown
    when forecasting, and marked so.

    Attributes
    ----------
    context_length: observed steps of the window.
    prediction_length: steps to forecast.
    lags: positive and increasing, in steps; empty for a window of one channel.
    """

    context_length: int
    prediction_length: int
    lags: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("context_length", "prediction_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        lags = tuple(int(lag) for lag in self.lags)
        if list(lags) != sorted(set(lags)) or (lags and lags[0] < 1):
            raise ValueError(f"lags must be positive and increasing, got {self.lags}; give () for none")
        object.__setattr__(self, "lags", lags)

    @property
    def length(self) -> int:
        """L, steps of a window."""
        return self.context_length + self.prediction_length

    @property
    def past_length(self) -> int:
        """Steps before the forecast that a window reads: the context and the longest lag."""
        return self.context_length + max(self.lags, default=0)

    @property
    def channels(self) -> int:
        """C: the series and one channel a lag."""
        return 1 + len(self.lags)

    def joined(
        self,
        past: Tensor,
        past_observed: Tensor | None = None,
        future: Tensor | None = None,
        future_observed: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """``past ++ future`` and what of it is observed, both (B, past_length + prediction_length), in unscaled values.

        ``past`` is (B, past_length) and ``future`` (B, prediction_length), or None where it is unknown. NaN is missing, and so
        is what the observed masks have 0 for; missing values become 0. Raises ``ValueError`` for other lengths and for
        observed values that are infinite.
        """
        if future is None and future_observed is not None:
            raise ValueError("future must be given where future_observed is")
        past, past_observed = filled(past, past_observed, name="past")
        self._check(past, self.past_length, "past")
        if future is None:
            future = past.new_zeros(len(past), self.prediction_length)
            future_observed = torch.zeros_like(future)
        else:
            future, future_observed = filled(future.to(past), future_observed, name="future")
            self._check(future, self.prediction_length, "future")
        return torch.cat([past, future], 1), torch.cat([past_observed, future_observed], 1)

    def _check(self, part: Tensor, length: int, name: str) -> None:
        if part.ndim != 2 or part.shape[1] != length:
            hint = "; pad shorter series on the left with NaN" if name == "past" else ""
            raise ValueError(f"{name} must have shape (B, {length}), got {tuple(part.shape)}{hint}")

    def of_context(self, sequence: Tensor) -> Tensor:
        """The context of a joined ``sequence``, (B, context_length)."""
        return sequence[:, -self.length : -self.prediction_length]

    def lagged(self, sequence: Tensor) -> Tensor:
        """The lag channels of a joined ``sequence``, (B, L, number of lags)."""
        return lagged(sequence, self.lags, self.length)

    def channels_of(self, sequence: Tensor) -> Tensor:
        """The series and its lags, (B, L, C), of a joined ``sequence``."""
        return torch.cat([sequence[:, -self.length :, None], self.lagged(sequence)], -1)

    def __call__(self, sequence: Tensor, observed: Tensor, scale: Tensor, features: Tensor | None = None) -> Window:
        """The window of what :meth:`joined` returns, divided by ``scale`` (B, 1)."""
        x = self.channels_of(sequence / scale)
        return Window(
            x=x, observed=self.channels_of(observed).to(x), scale=scale, context=self.context_length, features=features
        )


def filled(values: Tensor, observed: Tensor | None = None, *, name: str = "values") -> tuple[Tensor, Tensor]:
    """``values`` with 0 where they are missing, and the mask of 0 and 1 of what is not; both of the shape of values.

    NaN is missing, and so is what ``observed`` has 0 for. Raises ``ValueError`` for infinite observed values.
    """
    known = ~torch.isnan(values)
    if observed is not None:
        if observed.shape != values.shape:
            raise ValueError(
                f"the observed mask of {name} must have its shape, {tuple(values.shape)}, got {tuple(observed.shape)}"
            )
        known = known & (observed > 0)
    infinite = known & torch.isinf(values)
    if bool(infinite.any()):
        place = infinite.nonzero()[0].tolist()
        raise ValueError(
            f"{name} must be finite where observed, got {values[tuple(place)].item()} at {place}; use NaN for gaps"
        )
    return torch.where(known, values, 0), known.to(values.dtype)


def lagged(sequence: Tensor, lags: Sequence[int], length: int) -> Tensor:
    """The last ``length`` values of ``sequence`` (B, N) as they were ``lags`` steps earlier: (B, length, number of lags).

    Raises ``ValueError`` where N is less than ``length + max(lags)``.
    """
    end = sequence.shape[1]
    if end < length + max(lags, default=0):
        raise ValueError(f"sequence must have at least {length + max(lags, default=0)} steps for these lags, got {end}")
    if not lags:
        return sequence.new_zeros(len(sequence), length, 0)
    return torch.stack([sequence[:, end - length - lag : end - lag] for lag in lags], -1)
