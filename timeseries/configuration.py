"""What a model of windows is: its frequency, its lengths, its network. Enough to build it anew from a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from timeseries.backbone import Backbone, BackboneSize
from timeseries.conditional import TSDiffCond
from timeseries.diffusion import TSDiff, linear_schedule
from timeseries.features import FeatureAssembly
from timeseries.frequencies import Frequency
from timeseries.windows import WindowAssembly

__all__ = ["TSDiffConfig", "default_context", "fresh_model"]

PUBLISHED_CONTEXTS = {"h": 336, "D": 360, "B": 360}
SEASONS, LONGEST = 14, 720  # of the default context of other frequencies


@dataclass(frozen=True, kw_only=True)
class TSDiffConfig:
    """Settings of a :class:`~timeseries.diffusion.TSDiff` or :class:`~timeseries.conditional.TSDiffCond`.

    Attributes
    ----------
    freq: frequency of the series, in any spelling; kept in the current one.
    prediction_length: steps to forecast; context_length: observed steps of a window, None for :func:`default_context`.
    lags: positive and increasing; None for those of the frequency, ``()`` for none.
    conditional: whether the model is TSDiffCond.
    size: of the network, by default that of every published model.
    input_skip: whether the network adds its input to its output.
    time_features: whether the network sees time features and age.
    covariates: number of known-future covariates it sees, the rows of ``feat_dynamic_real``; 0 for none.
    covariate_statistics: mean and standard deviation of each, by which they are standardised; filled in by training.
    noise_observed: see :class:`~timeseries.conditional.TSDiffCond`.
    guidance_scale: strength s of the observation self-guidance; the best one depends on the data.
    T: times of the diffusion.
    """

    freq: str
    prediction_length: int
    context_length: int | None = None
    lags: tuple[int, ...] | None = None
    conditional: bool = False
    size: BackboneSize = field(default_factory=BackboneSize)
    input_skip: bool = False
    time_features: bool = False
    covariates: int = 0
    covariate_statistics: tuple[tuple[float, float], ...] = ()
    noise_observed: bool = True
    guidance_scale: float = 1.0
    T: int = 100

    def __post_init__(self) -> None:
        frequency = Frequency.parse(self.freq)
        if self.prediction_length < 1:
            raise ValueError(f"prediction_length must be at least 1, got {self.prediction_length}")
        context = self.context_length
        if context is None:
            context = default_context(frequency, self.prediction_length)
        lags = frequency.lags if self.lags is None else tuple(self.lags)
        settled = {"freq": frequency.alias, "context_length": context, "lags": lags}
        for name, value in settled.items():
            object.__setattr__(self, name, value)
        self.assembly  # noqa: B018  its own checks of lengths and lags
        if self.covariates < 0 or self.T < 1:
            raise ValueError(f"covariates must be at least 0 and T at least 1, got {self.covariates} and {self.T}")
        if not 0 <= self.guidance_scale < float("inf"):
            raise ValueError(f"guidance_scale must be finite and at least 0, got {self.guidance_scale}")
        if self.covariate_statistics and len(self.covariate_statistics) != self.covariates:
            got = f"{len(self.covariate_statistics)} for {self.covariates}"
            raise ValueError(f"covariate_statistics must have one pair a covariate, or be empty, got {got}")

    @property
    def frequency(self) -> Frequency:
        return Frequency.parse(self.freq)

    @property
    def assembly(self) -> WindowAssembly:
        return WindowAssembly(
            context_length=self.context_length or 0, prediction_length=self.prediction_length, lags=self.lags or ()
        )

    @property
    def steps(self) -> int | None:
        """Features of each step that covariates bring: time features and age, then the covariates; None for none at all."""
        count = (len(self.frequency.time_features) + 1 if self.time_features else 0) + self.covariates
        return count or None

    def model(self) -> TSDiff | TSDiffCond:
        """A fresh model, its kernels settled at the length of its windows, so that an average of it can begin at once."""
        assembly, embedder = self.assembly, FeatureAssembly()
        features = 0 if self.steps is None else embedder.size(self.steps)
        channels = assembly.channels
        if self.conditional:
            features, channels = features + 2 + len(assembly.lags), 1
        backbone = Backbone(channels, **asdict(self.size), features=features, input_skip=self.input_skip)
        backbone.prepare(assembly.length)
        schedule = linear_schedule(self.T)
        if self.conditional:
            return TSDiffCond(backbone, assembly, schedule=schedule, embedder=embedder, noise_observed=self.noise_observed)
        return TSDiff(backbone, assembly, schedule=schedule, embedder=embedder)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as JSON has them; :meth:`of_dict` reads them."""
        plain = asdict(self)
        plain["lags"] = list(self.lags or ())
        plain["covariate_statistics"] = [list(pair) for pair in self.covariate_statistics]
        return plain

    @classmethod
    def of_dict(cls, plain: Mapping[str, Any]) -> TSDiffConfig:
        """The settings of :meth:`as_dict`. Raises ``ValueError`` for names that are none, and for what is no settings."""
        values = _known(cls, plain)
        if "size" in values:
            values["size"] = BackboneSize(**_known(BackboneSize, values["size"]))
        if "covariate_statistics" in values:
            values["covariate_statistics"] = tuple((float(mean), float(std)) for mean, std in values["covariate_statistics"])
        return cls(**values)


def fresh_model(config: TSDiffConfig) -> TSDiff | TSDiffCond:
    """:meth:`TSDiffConfig.model` under a name that the cards of shipped models can call."""
    return config.model()


def default_context(frequency: Frequency, prediction_length: int) -> int:
    """336 steps of hours and 360 of days and business days, as published for most data.

    For others, four horizons or 14 seasons, the latter up to 720 steps, whichever is longer.
    """
    step = frequency.reduced
    if step.multiple == 1 and step.unit in PUBLISHED_CONTEXTS:
        return PUBLISHED_CONTEXTS[step.unit]
    return max(4 * prediction_length, min(SEASONS * frequency.season, LONGEST))


def _known(kind: type, plain: Mapping[str, Any]) -> dict[str, Any]:
    names = {f.name for f in fields(kind)}
    if not isinstance(plain, Mapping) or not plain.keys() <= names:
        got = sorted(set(plain) - names) if isinstance(plain, Mapping) else plain
        raise ValueError(f"{kind.__name__} has the settings {', '.join(sorted(names))}, got {got}")
    return dict(plain)
