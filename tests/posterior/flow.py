"""A small model of hours in place of the shipped one: windows of six days, an untrained network of a few channels."""

from tests.timeseries.waves import config
from timeseries.guidance import DDIMGuidance
from timeseries.predictor import TSDiffPredictor

__all__ = ["stand_in"]


def stand_in() -> TSDiffPredictor:
    settings = config(prediction_length=24, context_length=120, lags=(24,))
    return TSDiffPredictor(settings, settings.model(), DDIMGuidance(scale=1.0, skip=2))
