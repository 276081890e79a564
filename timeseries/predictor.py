"""Forecasts of a trained model as GluonTS has them."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import numpy as np
import torch
from gluonts.model.forecast import SampleForecast
from gluonts.model.predictor import Predictor
from numpy.typing import NDArray
from torch import Tensor, nn

from prior import registry
from prior.checkpoints import named_tensors, read_file
from prior.randomness import MemberNoise
from timeseries.archive import device_of, guidance_as_dict, guidance_of_dict, load_weights, read_archive, write_archive
from timeseries.batches import cut_windows, path_seed
from timeseries.conditional import TSDiffCond
from timeseries.configuration import TSDiffConfig
from timeseries.diffusion import TSDiff
from timeseries.features import Covariates
from timeseries.guidance import DDIMGuidance, DDPMGuidance, Guidance
from timeseries.paths import PathWindow, finite
from timeseries.scaling import typical_scale
from timeseries.series import Series
from timeseries.windows import Window, filled

__all__ = ["TSDiffPredictor"]

CLASS_PATH = "timeseries.predictor.TSDiffPredictor"
FRESH = "timeseries.configuration.fresh_model"  # what cards of shipped models name
OPTIONS: Mapping[str, type] = MappingProxyType({"num_samples": int, "batch_size": int, "seed": int, "precise": bool})
ANCHOR = re.escape("backbone.input_init.0.weight")  # every model has it, and has it once


class TSDiffPredictor(Predictor):
    """A GluonTS ``Predictor``: sample paths of the ``prediction_length`` values that follow each series.

    TSDiff forecasts by observation self-guidance, TSDiff-Cond by its features. A history shorter than a window is padded as
    unknown, and gaps are unknown too. A window without an observed value other than 0 takes its scale from the whole
    history; a history of zeros alone is forecast as zeros, the limit of small scales; a constant one like any other.

    Path i of series n of a data set has its own noise, of :func:`~timeseries.batches.path_seed` ``(seed) + n S + i`` for S
    paths, whatever ``batch_size`` is; another seed gives independent ones. What other batches change is rounding, see
    :meth:`~timeseries.guidance.Guidance.sample`: in float32 a strong pull towards quantiles makes it percents of some paths;
    with ``precise`` it stays below the float32 that forecasts are given in. Every kernel is worked out once and kept.

    Parameters
    ----------
    config: what ``model`` is; model: in evaluation mode from now on, its weights not to be trained.
    guidance: of TSDiff, by default :class:`~timeseries.guidance.DDPMGuidance` towards quantiles with the scale of ``config``.
    num_samples: S, unless ``predict`` is told otherwise.
    batch_size: paths that the network sees at once, which bounds the memory.
    seed: of the noise.
    precise: whether a copy of the model, and the chain, are float64: about twice the time on a CPU, far more on many GPUs.
    """

    def __init__(
        self,
        config: TSDiffConfig,
        model: TSDiff | TSDiffCond,
        guidance: Guidance | None = None,
        *,
        num_samples: int = 100,
        batch_size: int = 256,
        seed: int = 0,
        precise: bool = False,
    ) -> None:
        super().__init__(prediction_length=config.prediction_length)
        if min(num_samples, batch_size) < 1:
            raise ValueError(f"num_samples and batch_size must be at least 1, got {num_samples} and {batch_size}")
        if precise and not _is_double(model):
            model = copy.deepcopy(model).double()
        self.config, self.model = config, model.eval().requires_grad_(False)
        self.guidance = DDPMGuidance(scale=config.guidance_scale) if guidance is None else guidance
        self.num_samples, self.batch_size, self.seed = num_samples, batch_size, seed

    @property
    def precise(self) -> bool:
        """Whether forecasts are made in float64, as they also are of a ``model`` that came in it."""
        return _is_double(self.model)

    def predict(
        self, dataset: Iterable[Mapping[str, Any]], num_samples: int | None = None, **kwargs: Any
    ) -> Iterator[SampleForecast]:
        """A forecast for each entry of a GluonTS data set, in its order, made in pieces while it is asked for.

        Raises ``ValueError``, naming the series by item_id or number and the first bad row, for entries that
        :meth:`Series.of_entry` refuses, for series without a single value, and for covariates that end before the forecast.
        ``TypeError`` for arguments that other predictors have and this one has not.
        """
        if kwargs:
            raise TypeError(f"predict takes dataset and num_samples, got {', '.join(kwargs)} besides")
        paths = self.num_samples if num_samples is None else num_samples
        if paths < 1:
            raise ValueError(f"num_samples must be at least 1, got {paths}")
        return self._forecasts(dataset, paths)

    def _forecasts(self, dataset: Iterable[Mapping[str, Any]], paths: int) -> Iterator[SampleForecast]:
        entries, first, count, base = iter(dataset), 0, max(1, self.batch_size // paths), path_seed(self.seed)
        while piece := list(islice(entries, count)):
            series = [Series.of_entry(entry, self.config, first + i).known() for i, entry in enumerate(piece)]
            samples = self.paths(series, paths, seed=base + first * paths)[..., self.config.assembly.context_length :]
            for one, drawn in zip(series, samples, strict=True):
                yield SampleForecast(samples=drawn, start_date=one.end, item_id=one.item_id)
            first += len(piece)

    def paths(self, series: Sequence[Series], paths: int, *, seed: int) -> NDArray[np.float32]:
        """``paths`` windows of each series, the last L - H steps of it and H to come, (B, S, L), in the unit of the series.

        Path i of all has the noise of ``seed + i``. Raises ``ValueError``, naming the series, where the chain diverges.
        """
        window = self.window(series)
        try:
            drawn = self._walk(window, paths, seed)
        except ValueError as error:
            raise ValueError(f"of the series {', '.join(s.name for s in series)}, counted from 0: {error}") from error
        samples = drawn.float().cpu().numpy()
        for one, rows in zip(series, samples, strict=True):
            if not np.nan_to_num(one.target).any():
                rows[:] = 0
        return samples

    def window(self, series: Sequence[Series]) -> Window:
        """The windows that end ``prediction_length`` steps after the series, the future unknown."""
        batch = cut_windows([(one, len(one)) for one in series], self.config)
        like = next(self.model.parameters())
        past, covariates = batch.past.to(like), None
        if batch.steps is not None:
            covariates = Covariates(steps=batch.steps.to(like))
        context, observed = filled(past[:, -self.model.assembly.context_length :])
        scale = self.model.scaler(context, observed)
        for i in (context == 0).all(1).nonzero().flatten().tolist():
            if np.nan_to_num(series[i].target).any():
                scale[i] = typical_scale([torch.from_numpy(series[i].target)])
        return self.model.window(past, covariates=covariates, scale=scale)

    def _walk(self, window: Window, paths: int, seed: int) -> Tensor:
        """(B, S, L)."""
        if not isinstance(self.model, TSDiffCond):
            return self.guidance.sample(self.model, window, paths, seed=seed, batch=self.batch_size)
        pieces = PathWindow.pieces(window, paths, self.batch_size)
        drawn = [self.model.sample(p.window, noise=MemberNoise(seed + p.first, len(p))) for p in pieces]
        return finite(window.series(torch.cat(drawn)), "the chain diverges", "train the model longer")

    def sample(self, count: int, *, seed: int | None = None) -> NDArray[np.float32]:
        """``count`` synthetic windows (count, L) in scaled values, whose mean size is 1; of unconditional models only.

        Window i has the noise of ``path_seed(seed) + i``, so that other seeds give other windows. Raises ``TypeError`` for
        TSDiff-Cond, ``ValueError`` for a model that needs covariates.
        """
        if isinstance(self.model, TSDiffCond):
            raise TypeError("sample needs an unconditional model, got TSDiffCond; train with conditional=False")
        if self.config.steps is not None:
            raise ValueError("sample needs a model without time features and covariates; this one has never run without")
        if count < 1:
            raise ValueError(f"count must be at least 1, got {count}")
        base, drawn = path_seed(self.seed if seed is None else seed), []
        for first in range(0, count, self.batch_size):
            n = min(self.batch_size, count - first)
            drawn.append(self.model.sample(n, noise=MemberNoise(base + first, n))[..., 0].float().cpu())
        return torch.cat(drawn).numpy()

    def for_horizon(self, prediction_length: int) -> TSDiffPredictor:
        """The same model in windows of the same length, of which the last ``prediction_length`` steps are the forecast.

        An unconditional model knows windows as wholes, so where the forecast begins is free; it was tuned for its own horizon.
        Raises ``ValueError`` for horizons beyond half the window, and for other horizons of TSDiff-Cond.
        """
        if prediction_length == self.config.prediction_length:
            return self
        if isinstance(self.model, TSDiffCond):
            only = self.config.prediction_length
            raise ValueError(
                f"prediction_length must be {only}, what this TSDiff-Cond was trained for, got {prediction_length}"
            )
        length = self.config.assembly.length
        if not 1 <= prediction_length <= length // 2:
            raise ValueError(f"prediction_length must lie in 1..{length // 2}, half the window, got {prediction_length}")
        config = replace(self.config, prediction_length=prediction_length, context_length=length - prediction_length)
        own = self.model
        model = TSDiff(own.backbone, config.assembly, schedule=own.schedule, scaler=own.scaler, embedder=own.embedder)
        return TSDiffPredictor(config, model, self.guidance, **self._options())

    def _options(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in OPTIONS}

    def serialize(self, path: Path) -> None:
        """``config.json`` and ``model.safetensors`` into the folder ``path``, and what GluonTS finds the class by."""
        path = Path(path)
        settings = {
            "class_path": CLASS_PATH,
            "config": self.config.as_dict(),
            "guidance": guidance_as_dict(self.guidance),
            "forecast": self._options(),
        }
        write_archive(path, settings, self.model)
        super().serialize(path)

    @classmethod
    def deserialize(cls, path: Path, device: str | torch.device = "auto", **kwargs: Any) -> TSDiffPredictor:
        """The predictor in the folder ``path``, on ``device``; ``"auto"`` takes the accelerator where there is one.

        Reads plain values and tensors; the only classes it makes are those of this package that it knows. Raises
        ``FileNotFoundError`` or ``ValueError``.
        """
        if kwargs:
            raise TypeError(f"deserialize takes path and device, got {', '.join(kwargs)} besides")
        path = Path(path)
        settings, weights = read_archive(path, CLASS_PATH)
        try:
            config, guidance, options = (settings[name] for name in ("config", "guidance", "forecast"))
        except KeyError as error:
            raise ValueError(
                f"path: config.json in {path} must have config, guidance and forecast; {error} is missing"
            ) from error
        config = TSDiffConfig.of_dict(config)
        options, model = _options(options, path), config.model()
        if options["precise"]:
            model.double()  # before loading, so that the weights stay as they were kept
        load_weights(model, weights, path)
        return cls(config, model.to(device_of(device)), guidance_of_dict(guidance), **options)

    def compile(self) -> TSDiffPredictor:
        """This predictor, its network compiled for its device: for many forecasts on a GPU; the first ones wait for it."""
        self.model.backbone.compile()
        return self

    @classmethod
    def shipped(cls, name: str = "hourly", *, device: str | torch.device = "auto", precise: bool = False) -> TSDiffPredictor:
        """The predictor of the shipped model ``name``, whose card ``prior.registry`` has; ``precise`` as of the class.

        Raises ``ValueError`` for another name, and where the file is not the one that was measured.
        """
        described = registry.card(name).denoiser
        if described.get("class_path") != FRESH:
            raise ValueError(f"name must be that of a model of time series, got {name!r}, {registry.card(name).summary}")
        config = registry.build(described["init_args"]["config"])
        model = cast(TSDiff | TSDiffCond, registry.embedded(name).to(device_of(device)))
        return cls(config, model, DDIMGuidance(scale=config.guidance_scale, skip=2, spacing="early"), precise=precise)

    @classmethod
    def from_checkpoint(
        cls,
        path: str | Path,
        config: TSDiffConfig | None = None,
        *,
        device: str | torch.device = "auto",
        precise: bool = False,
    ) -> TSDiffPredictor:
        """The predictor of a Lightning checkpoint that :class:`~timeseries.training.TSDiffModule` wrote; averaged weights
        where they were averaged; ``precise`` as of the class.

        A file with the released keys, a state dict or a checkpoint of the official training, needs ``config``. Raises
        ``FileNotFoundError`` or ``ValueError``.
        """
        path = Path(path)
        content = read_file(path)
        if config is None:
            if not isinstance(content, dict) or "config" not in content:
                raise ValueError(f"path: {path} does not say what model it is of; give config=TSDiffConfig(...)")
            config = TSDiffConfig.of_dict(content["config"])
        model = config.model()
        load_weights(model, named_tensors(content, path, anchor=ANCHOR, family="TSDiff"), path)
        return cls(config, model.to(device_of(device)), precise=precise)


def _is_double(model: nn.Module) -> bool:
    return next(model.parameters()).dtype == torch.float64


def _options(plain: Any, path: Path) -> dict[str, Any]:
    """Those of ``config.json``; ``precise`` is missing in files from before there was a choice."""
    given = {"precise": False, **plain} if isinstance(plain, dict) else {}
    if given.keys() != OPTIONS.keys() or not all(isinstance(given[name], kind) for name, kind in OPTIONS.items()):
        raise ValueError(
            f"path: forecast in config.json of {path} must have whole batch_size, num_samples, seed and whether it is precise, "
            f"got {plain}"
        )
    return given
