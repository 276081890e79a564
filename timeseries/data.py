"""Windows to train on: random ones of every series, and the last ones, held out for validation."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from prior.numbered import BatchNumbers, NumberedLoader
from timeseries.batches import WindowBatch, cut_windows, generator_of, seed_of
from timeseries.configuration import TSDiffConfig
from timeseries.files import read_entries
from timeseries.missing import MissingScenario
from timeseries.scaling import typical_scale
from timeseries.series import Series, series_of

__all__ = ["HeldOutWindows", "RandomWindows", "SeriesDataModule", "WindowDataModule", "covariate_statistics"]


class RandomWindows(Dataset[WindowBatch]):
    """Batch n, for any n: one random window of each series in turn, in an order that is drawn anew for every round.

    A forecast begins anywhere from where the lags of the window reach back to the first value, up to the last place with
    a whole future; in short series anywhere in their later half, and at least ``prediction_length`` steps in, what is
    missing before being padded as unknown. A series of fewer than two prediction lengths has no window.

    Parameters
    ----------
    series: of which windows are cut.
    config: of the model.
    batch_size: windows a batch.
    seed: of series, windows and what is hidden; rank: other processes have other windows.
    hidden: what is hidden from the context in training, or None.

    Raises ``ValueError`` where every series is too short, and warns where some are.
    """

    def __init__(
        self,
        series: Sequence[Series],
        config: TSDiffConfig,
        *,
        batch_size: int = 64,
        seed: int = 0,
        rank: int = 0,
        hidden: MissingScenario | None = None,
    ) -> None:
        self.series = _long_enough(series, 2 * config.prediction_length)
        self.config, self.batch_size, self.seed, self.rank, self.hidden = config, batch_size, seed, rank, hidden

    def __getitem__(self, number: int) -> WindowBatch:
        seed = seed_of("windows", self.seed, self.rank, number)
        generator = torch.Generator().manual_seed(seed)
        visits = range(number * self.batch_size, (number + 1) * self.batch_size)
        orders = {turn: self._order(turn) for turn in {visit // len(self.series) for visit in visits}}
        places = []
        for visit in visits:
            turn, place = divmod(visit, len(self.series))
            series = self.series[orders[turn][place]]
            first, last = self.splits(len(series))
            places.append((series, first + int(torch.randint(last - first + 1, (), generator=generator))))
        return cut_windows(places, self.config, hidden=self.hidden, seed=seed)

    def splits(self, length: int) -> tuple[int, int]:
        """The first and the last place where a forecast may begin in a series of ``length`` values."""
        assembly = self.config.assembly
        last = length - assembly.prediction_length
        return min(last, assembly.past_length, max(assembly.context_length, (assembly.context_length + last) // 2)), last

    def _order(self, turn: int) -> list[int]:
        return torch.randperm(len(self.series), generator=generator_of("order", self.seed, self.rank, turn)).tolist()


class HeldOutWindows(Dataset[WindowBatch]):
    """The last ``windows`` windows of every series, one prediction length apart, always alike.

    They come in a drawn order, so that the first batches stand for all. Series that have no history before a window do not
    have that window. Raises ``ValueError`` where there is none at all.
    """

    def __init__(
        self,
        series: Sequence[Series],
        config: TSDiffConfig,
        windows: int = 1,
        *,
        batch_size: int = 64,
        seed: int = 0,
        hidden: MissingScenario | None = None,
    ) -> None:
        step = config.prediction_length
        places = [(s, len(s) - w * step) for s in series for w in range(windows, 0, -1) if len(s) - w * step >= step]
        if not places:
            raise ValueError(f"series must have at least {2 * step} values to validate on, two prediction lengths; none has")
        order = torch.randperm(len(places), generator=generator_of("validation", seed)).tolist()
        self.places = [places[i] for i in order]
        self.config, self.batch_size, self.seed, self.hidden = config, batch_size, seed, hidden

    def __len__(self) -> int:
        return -(-len(self.places) // self.batch_size)

    def __getitem__(self, number: int) -> WindowBatch:
        chosen = self.places[number * self.batch_size : (number + 1) * self.batch_size]
        return cut_windows(chosen, self.config, hidden=self.hidden, seed=seed_of("validation", self.seed, number))


class WindowDataModule(LightningDataModule):
    """Windows of series in memory, for the model that is being trained, whose settings it reads.

    Batch n is the same in every run of one seed, whatever the number of workers and wherever the run was resumed.

    Parameters
    ----------
    dataset: GluonTS data set to train on; validation: another to validate on, whose last window is taken, or None.
    validation_windows: windows of one prediction length that are cut off the end of every series, and validated on instead
        where there is no ``validation``; the windows trained on never touch them.
    test_windows: further windows at the very end that are cut off and not used at all.
    batch_size: windows a batch, on each device; batches: batches an epoch.
    hidden: values of the context that are hidden in training and validation; for a conditional model.
    workers: loader processes; seed: of windows, times and noise.
    """

    def __init__(
        self,
        dataset: Any,
        validation: Any = None,
        *,
        validation_windows: int = 0,
        test_windows: int = 0,
        batch_size: int = 64,
        batches: int = 128,
        hidden: MissingScenario | None = None,
        workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        counts = {"validation_windows": validation_windows, "test_windows": test_windows, "workers": workers}
        if min(counts.values()) < 0 or min(batch_size, batches) < 1:
            raise ValueError(f"batch_size and batches must be at least 1, got {batch_size} and {batches}; others 0: {counts}")
        self.dataset, self.validation = dataset, validation
        self.validation_windows, self.test_windows, self.workers = validation_windows, test_windows, workers
        self.batch_size, self.batches, self.hidden, self.seed = batch_size, batches, hidden, seed
        self.series: list[Series] = []
        self.held_out: list[Series] = []

    @property
    def config(self) -> TSDiffConfig:
        """That of the module being trained, which must have one."""
        module = None if self.trainer is None else self.trainer.lightning_module
        if not isinstance(getattr(module, "config", None), TSDiffConfig):
            raise TypeError(f"the data are windows for a TSDiffModule; got {type(module).__name__}. Give it to the trainer too")
        return cast(Any, module).config

    def entries(self, config: TSDiffConfig) -> Any:
        """The data set to train on."""
        return self.dataset

    def setup(self, stage: str) -> None:
        if self.series:
            return
        config = self.config
        if self.hidden is not None:
            _check_hidden(self.hidden, config)
        step, validated = config.prediction_length, self.validation_windows
        whole = [s.known().cut(len(s) - self.test_windows * step) for s in series_of(self.entries(config), config)]
        self.series = _long_enough([s.cut(len(s) - validated * step) for s in whole], 2 * step)
        if self.validation is not None:
            self.held_out = series_of(self.validation, config)
        elif validated:
            self.held_out = whole

    @cached_property
    def scale(self) -> float:
        """The mean absolute value of what is trained on."""
        return typical_scale(torch.from_numpy(s.target) for s in self.series)

    @cached_property
    def statistics(self) -> tuple[tuple[float, float], ...]:
        """Those of the covariates where the series is trained on, see :func:`covariate_statistics`."""
        return covariate_statistics(self.series)

    def done(self) -> int:
        """Batches that this process has trained on, those before a resumption included."""
        return 0 if self.trainer is None else self.trainer.global_step * self.trainer.accumulate_grad_batches

    def train_dataloader(self) -> DataLoader[Any]:
        rank = 0 if self.trainer is None else self.trainer.global_rank
        options: dict[str, Any] = {"batch_size": self.batch_size, "seed": self.seed, "hidden": self.hidden}
        data, numbers = RandomWindows(self.series, self.config, rank=rank, **options), BatchNumbers(self.batches, self.done)
        return NumberedLoader(data, None, sampler=numbers, num_workers=self.workers, persistent_workers=self.workers > 0)

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        if not self.held_out:
            return []
        windows = 1 if self.validation is not None else self.validation_windows
        options: dict[str, Any] = {"batch_size": self.batch_size, "seed": self.seed, "hidden": self.hidden}
        return DataLoader(HeldOutWindows(self.held_out, self.config, windows, **options), None, num_workers=self.workers)


class SeriesDataModule(WindowDataModule):
    """Windows of the series in files, see :func:`~timeseries.files.read_entries`: for recipes.

    Parameters
    ----------
    path: ``.npz`` file, or JSON lines in the layout of GluonTS; or several, whose series are trained on alike.
    others: see :class:`WindowDataModule`.
    """

    def __init__(
        self,
        path: str | list[str],
        validation_windows: int = 0,
        test_windows: int = 0,
        batch_size: int = 64,
        batches: int = 128,
        hidden: MissingScenario | None = None,
        workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(
            None,
            validation_windows=validation_windows,
            test_windows=test_windows,
            batch_size=batch_size,
            batches=batches,
            hidden=hidden,
            workers=workers,
            seed=seed,
        )
        self.paths = [path] if isinstance(path, str) else list(path)

    def entries(self, config: TSDiffConfig) -> Any:
        return [entry for path in self.paths for entry in read_entries(path)]


def covariate_statistics(series: Sequence[Series]) -> tuple[tuple[float, float], ...]:
    """Mean and standard deviation of each covariate over all values of the series; 1 for the latter where it is 0."""
    known = [s.covariates[: len(s)] for s in series if s.covariates is not None]
    if not known:
        return ()
    rows = np.concatenate(known).astype(np.float64)
    return tuple((float(mean), float(std) or 1.0) for mean, std in zip(rows.mean(0), rows.std(0), strict=True))


def _check_hidden(hidden: MissingScenario, config: TSDiffConfig) -> None:
    if not config.conditional:
        raise ValueError("hidden is for conditional models; TSDiff itself is trained on windows as they are: drop hidden")
    if hidden.context_length != config.context_length:
        raise ValueError(
            f"hidden.context_length must be that of the model, {config.context_length}, got {hidden.context_length}"
        )


def _long_enough(series: Sequence[Series], least: int) -> list[Series]:
    kept = [s for s in series if len(s) >= least]
    if not kept:
        longest = max(series, key=len)
        got = f"the longest, {longest.name}, has {len(longest)}"
        raise ValueError(f"series must have at least {least} values to train on, two prediction lengths; {got}")
    if len(kept) < len(series):
        short = next(s for s in series if len(s) < least)
        warnings.warn(
            f"{len(series) - len(kept)} of {len(series)} series have fewer than {least} values and are left out, "
            f"such as series {short.name} with {len(short)}",
            stacklevel=3,
        )
    return kept
