"""The models of the TSDiff cases, with their weights, and their stored noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from torch import Tensor

from tests.parity.cases import Case, parity_cases
from timeseries.backbone import Backbone
from timeseries.conditional import TSDiffCond
from timeseries.diffusion import TSDiff, linear_schedule
from timeseries.scaling import MeanScale
from timeseries.windows import WindowAssembly

__all__ = ["assembly", "cases", "close", "cond", "replayed", "tsdiff"]


def close(got: Tensor, wanted: Tensor, tolerance: float, place: str) -> None:
    """Within ``tolerance`` of the largest stored value, or of 1 where that is larger."""
    assert got.shape == wanted.shape, place
    error = float((got.detach() - wanted).abs().max()) / max(1.0, float(wanted.abs().max()))
    assert error <= tolerance, f"{place}: {error:.2e} exceeds {tolerance:g}"


def cases(kind: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", parity_cases("tsdiff", kind), ids=str)


def assembly(case: Case) -> WindowAssembly:
    made = case.meta["mk"]
    lags = tuple(lag for lag in case.meta["lags"] if lag > 0)  # a lag of 0 is the series itself
    return WindowAssembly(context_length=made["ctx"], prediction_length=made["pred"], lags=lags)


def settings(case: Case) -> dict[str, Any]:
    """What models have besides network and assembly; weights and their names are those of the case."""
    return {"schedule": linear_schedule(case.meta["mk"]["T"]), "scaler": MeanScale(batch_rule=True)}


def backbone(case: Case) -> Backbone:
    weights, made = case.under("sd.backbone."), case.meta["mk"]
    return Backbone(
        weights["input_init.0.weight"].shape[1],
        made["cfg"]["hidden_dim"],
        made["cfg"]["num_residual_blocks"],
        made["cfg"]["step_emb"],
        out_channels=weights["out_linear.2.weight"].shape[0],
        features=weights["residual_blocks.0.feature_encoder.weight"].shape[1],
        state=2 * weights["residual_blocks.0.s4block.layer.kernel.kernel.B"].shape[-2],
        input_skip=made["skip"],
    )


def tsdiff(case: Case) -> TSDiff:
    model = TSDiff(backbone(case), assembly(case), **settings(case)).eval()
    model.load_state_dict(case.under("sd."), strict=True)
    return model


def cond(case: Case, *, noise_observed: bool) -> TSDiffCond:
    model = TSDiffCond(backbone(case), assembly(case), **settings(case), noise_observed=noise_observed, look_ahead=True).eval()
    model.load_state_dict(case.under("sd."), strict=True)
    return model


def replayed(draws: Tensor) -> Callable[[Tensor], Tensor]:
    """The stored noise, one draw a call; what is left over at the end was not asked for."""
    left = iter(draws)

    def noise(like: Tensor) -> Tensor:
        draw = next(left)
        assert draw.shape == like.shape
        return draw

    return noise
