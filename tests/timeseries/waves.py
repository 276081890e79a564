"""Small series with a daily wave and small models of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from timeseries.backbone import BackboneSize
from timeseries.configuration import TSDiffConfig

TINY = BackboneSize(hidden=6, blocks=1, embedding=8)


def config(**options: Any) -> TSDiffConfig:
    """Windows of 12 + 4 hours with lags of 2 and 8 and T = 5."""
    settings = {"freq": "h", "prediction_length": 4, "context_length": 12, "lags": (2, 8), "size": TINY, "T": 5}
    return TSDiffConfig(**{**settings, **options})


def wave(length: int = 90, number: int = 0) -> np.ndarray:
    noise = np.random.default_rng(number).normal(size=length)
    return (10 + number + 4 * np.sin(np.arange(length) * 2 * np.pi / 8) + 0.1 * noise).astype(np.float32)


def entries(count: int = 3, length: int = 90, **fields: Any) -> list[dict[str, Any]]:
    """GluonTS entries ``a``, ``b``, ... with dates from 2020-01-01."""
    return [{"start": "2020-01-01", "target": wave(length, i), "item_id": "abcdefgh"[i], **fields} for i in range(count)]
