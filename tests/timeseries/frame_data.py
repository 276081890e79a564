"""Frames of two waves, and a predictor of the smallest model, for the tests of what is made of frames."""

from functools import cache

import numpy as np
import pandas as pd
import torch

from tests.timeseries.waves import config, wave
from timeseries.columns import Columns
from timeseries.predictor import TSDiffPredictor

LONG, WIDE = Columns(id="unique_id"), Columns(target=None)
KNOWN = Columns(id="unique_id", covariates=("heat",))
HOURS = pd.date_range("2020-01-01", periods=60, freq="h")


@cache
def trained(**options):
    settings = config(**{"T": 3, **options})
    torch.manual_seed(0)
    return settings, settings.model().eval()


def predictor(num_samples=5, seed=0, **options):
    return TSDiffPredictor(*trained(**options), num_samples=num_samples, seed=seed)


def long(count=2, length=60, **columns):
    parts = [{"unique_id": "abc"[i], "ds": HOURS[:length], "y": wave(length, i).astype(float), **columns} for i in range(count)]
    return pd.concat([pd.DataFrame(part) for part in parts], ignore_index=True)


def wide(count=2):
    return long(count).pivot(index="ds", columns="unique_id", values="y")


def paths(forecasts):
    return np.stack([f.samples for f in forecasts])


def with_future(steps=4):
    times = pd.date_range(HOURS[0], periods=60 + steps, freq="h")
    rows = [pd.DataFrame({"unique_id": i, "ds": times, "heat": np.arange(60.0 + steps)}) for i in "ab"]
    return pd.concat(rows, ignore_index=True).merge(long(), how="left")
