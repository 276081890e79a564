"""Forecasts: dated and named, the same for the same seed however they are made and kept, and never NaN."""

import itertools
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import torch
from gluonts.dataset.common import ListDataset
from gluonts.evaluation import Evaluator, make_evaluation_predictions
from gluonts.model.forecast import SampleForecast
from gluonts.model.predictor import Predictor
from safetensors.torch import load_file, save_file

from prior.networks.s4_kernel import S4Kernel
from prior.randomness import MemberNoise
from tests.timeseries.waves import config, entries, wave
from timeseries.batches import path_seed
from timeseries.guidance import DDIMGuidance, DDPMGuidance, SquareEnergy
from timeseries.predictor import TSDiffPredictor
from timeseries.scores import crps
from timeseries.series import series_of
from timeseries.training import TSDiffModule

ROOT = Path(__file__).parents[2]
KINDS = pytest.mark.parametrize("conditional", [False, True])


def predictor(conditional=False, guidance=None, num_samples=3, batch_size=64, seed=0, precise=False, **options):
    settings = config(conditional=conditional, **options)
    torch.manual_seed(0)
    model = settings.model()
    numbers = {"num_samples": num_samples, "batch_size": batch_size, "seed": seed}
    return TSDiffPredictor(settings, model, guidance, **numbers, precise=precise)


def samples(forecasts):
    return np.stack([f.samples for f in forecasts])


# --- forecasts


@KINDS
def test_forecasts_are_dated_and_named(conditional):
    data = [*entries(2), {"start": pd.Period("2021-06-01", freq="h"), "target": wave(5)}]
    forecasts = list(predictor(conditional).predict(data))
    assert [f.item_id for f in forecasts] == ["a", "b", None]
    assert [str(f.start_date) for f in forecasts] == ["2020-01-04 18:00", "2020-01-04 18:00", "2021-06-01 05:00"]
    assert all(isinstance(f, SampleForecast) and f.samples.shape == (3, 4) for f in forecasts)
    assert np.isfinite(samples(forecasts)).all()


@pytest.mark.filterwarnings("ignore:Period with BDay:FutureWarning")
def test_business_days_are_counted_as_such():
    made = predictor(freq="B", lags=(3,))
    (forecast,) = made.predict([{"start": pd.Timestamp("2021-01-01"), "target": wave(30)}])
    assert forecast.start_date.to_timestamp() == pd.Timestamp("2021-01-01") + 30 * pd.offsets.BDay()


def test_forecasts_are_those_of_the_guidance():
    made, data = predictor(seed=7), entries(2)
    past = torch.stack([torch.from_numpy(e["target"][-20:]) for e in data])
    window = made.model.window(past)
    expected = DDPMGuidance(scale=1.0).sample(made.model, window, 3, seed=path_seed(7))[..., 12:]
    np.testing.assert_allclose(samples(made.predict(data)), expected, rtol=1e-6)


def test_forecasts_of_a_conditional_model_are_its_chain():
    made, data = predictor(conditional=True, seed=7), entries(2)
    window = made.model.window(torch.stack([torch.from_numpy(e["target"][-20:]) for e in data]))
    paths = window.repeat(3)
    expected = window.forecast(made.model.sample(paths, noise=MemberNoise(path_seed(7), 6)))
    np.testing.assert_allclose(samples(made.predict(data)), expected, rtol=1e-5)


def test_other_horizons_are_other_parts_of_the_same_window():
    made, data = predictor(seed=7), entries(2)
    short = made.for_horizon(2)
    past = torch.stack([torch.from_numpy(e["target"][-22:]) for e in data])
    expected = DDPMGuidance(scale=1.0).sample(short.model, short.model.window(past), 3, seed=path_seed(7))[..., 14:]
    np.testing.assert_allclose(samples(short.predict(data)), expected, rtol=1e-6)
    assert short.prediction_length == 2
    assert short.model.backbone is made.model.backbone
    assert made.for_horizon(4) is made
    assert samples(made.for_horizon(8).predict(data)).shape == (2, 3, 8)
    for wrong in (0, 9):
        with pytest.raises(ValueError, match=rf"must lie in 1\.\.8, half the window, got {wrong}"):
            made.for_horizon(wrong)
    with pytest.raises(ValueError, match="must be 4, what this TSDiff-Cond was trained for, got 2"):
        predictor(conditional=True).for_horizon(2)


def test_what_ships_forecasts_a_daily_wave():
    """Better than its mean; the model has seen no such series."""
    made = TSDiffPredictor.shipped("hourly", device="cpu").for_horizon(24)
    hours = np.arange(24 * 50)
    target = (100 + 40 * np.sin(hours * 2 * np.pi / 24)).astype(np.float32)
    (forecast,) = made.predict([{"start": "2021-03-01", "target": target[:-24]}], num_samples=8)
    assert np.abs(np.median(forecast.samples, 0) - target[-24:]).mean() < 0.35 * np.abs(target - target.mean()).mean()
    with pytest.raises(ValueError, match="name must be that of a model of time series, got 'photos', unconditional denoiser"):
        TSDiffPredictor.shipped("photos")
    with pytest.raises(ValueError, match="unknown model 'daily'"):
        TSDiffPredictor.shipped("daily")


@KINDS
def test_neither_batches_nor_neighbours_change_a_forecast(conditional):
    data = entries(3)
    whole = samples(predictor(conditional).predict(data))
    for batch_size in (1, 5):
        np.testing.assert_allclose(samples(predictor(conditional, batch_size=batch_size).predict(data)), whole, rtol=1e-4)
    np.testing.assert_allclose(samples(predictor(conditional).predict(data[:2])), whole[:2], rtol=1e-4)
    other = samples(predictor(conditional, seed=1).predict(data))
    assert np.abs(other - whole).max() > 1e-3


def test_precise_forecasts_of_what_ships_do_not_depend_on_the_batch():
    """Four guided steps; in float32 some paths differ by 2e-4."""
    hours = np.arange(24 * 50)
    wavy = 100 + 40 * np.sin(hours * 2 * np.pi / 24) + np.random.default_rng(0).normal(0, 8, len(hours))
    data = [{"start": "2021-03-01", "target": wavy.astype(np.float32)}]
    made = TSDiffPredictor.shipped("hourly", device="cpu", precise=True).for_horizon(24)
    assert made.precise
    made.guidance = replace(made.guidance, skip=25)
    found = []
    for made.batch_size in (5, 16):
        found.append(samples(made.predict(data, num_samples=16)))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6)


@KINDS
def test_a_precise_predictor_has_a_copy_of_the_model_in_float64(conditional, tmp_path):
    single, data = predictor(conditional), entries(2)
    made = predictor(conditional, precise=True)
    copied = TSDiffPredictor(single.config, single.model, num_samples=3, batch_size=64, precise=True)
    assert (single.precise, made.precise, copied.precise) == (False, True, True)
    assert next(single.model.parameters()).dtype == torch.float32
    expected = samples(made.predict(data))
    assert expected.dtype == np.float32
    np.testing.assert_array_equal(samples(copied.predict(data)), expected)
    np.testing.assert_allclose(samples(single.predict(data)), expected, rtol=1e-3)
    with torch.no_grad():
        made.model.backbone.input_init[0].bias.add_(1e-12)  # nothing of it may be lost
    made.serialize(tmp_path)
    again = TSDiffPredictor.deserialize(tmp_path, "cpu")
    assert again.precise
    assert torch.equal(again.model.backbone.input_init[0].bias, made.model.backbone.input_init[0].bias)
    np.testing.assert_array_equal(samples(again.predict(data)), samples(made.predict(data)))


def test_predictors_kept_before_there_was_a_choice_are_not_precise(tmp_path):
    predictor().serialize(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    del settings["forecast"]["precise"]
    (tmp_path / "config.json").write_text(json.dumps(settings))
    assert not TSDiffPredictor.deserialize(tmp_path, "cpu").precise


@KINDS
def test_forecasts_scale_with_their_series(conditional):
    made, data = predictor(conditional), entries(2)
    larger = [{**e, "target": 1000 * e["target"]} for e in data]
    np.testing.assert_allclose(samples(made.predict(larger)), 1000 * samples(made.predict(data)), rtol=1e-3, atol=1)


def test_kernels_are_worked_out_once(monkeypatch):
    made, count, forward = predictor(batch_size=3), [], S4Kernel.forward

    def counted(self, length):
        count.append(length)
        return forward(self, length)

    monkeypatch.setattr(S4Kernel, "forward", counted)
    list(made.predict(entries(3)))
    assert count == [16]


def test_forecasts_are_made_as_they_are_asked_for():
    made = predictor(batch_size=3)

    def unending():
        yield from entries(1)
        raise RuntimeError("read too far")

    assert next(made.predict(unending())).item_id == "a"


def test_gluonts_evaluates_it():
    made = predictor(num_samples=1)
    data = ListDataset(entries(3), freq="h")
    forecasts, series = (list(part) for part in make_evaluation_predictions(data, made, num_samples=10))
    assert all(f.samples.shape == (10, 4) for f in forecasts)
    assert all(f.start_date == truth.index[-4] for f, truth in zip(forecasts, series, strict=True))
    scores, _ = Evaluator(num_workers=0)(series, forecasts)
    target = np.stack([e["target"][-4:] for e in entries(3)])
    assert scores["mean_wQuantileLoss"] == pytest.approx(crps(samples(forecasts), target), rel=1e-5)
    full = [{**e, "target": e["target"][:-4]} for e in entries(3)]
    np.testing.assert_allclose(samples(forecasts), samples(made.predict(full, num_samples=10)), rtol=1e-5)


def test_covariates_reach_the_network():
    made = predictor(covariates=1, time_features=True, covariate_statistics=((45.0, 25.0),))
    known = np.arange(94.0)[None]
    first = samples(made.predict(entries(2, feat_dynamic_real=known)))
    changed = known.copy()
    changed[0, -1] = 0
    assert np.abs(samples(made.predict(entries(2, feat_dynamic_real=changed))) - first).max() > 1e-3
    longer = np.concatenate([known, np.full((1, 9), 1e9)], 1)
    np.testing.assert_allclose(samples(made.predict(entries(2, feat_dynamic_real=longer))), first, rtol=1e-5)
    with pytest.raises(ValueError, match=r"'a': covariates end early, the first missing row is 92.*rows 0\.\.93"):
        list(made.predict(entries(2, feat_dynamic_real=known[:, :92])))


# --- series that say little


@KINDS
def test_odd_series_have_sensible_forecasts(conditional):
    made = predictor(conditional)
    gaps = wave(90)
    gaps[[3, 70, 80]] = np.nan
    blackout = np.r_[wave(40), np.full(30, np.nan)]
    odd = [wave(1), np.zeros(50), np.full(50, 3.0), gaps, blackout, np.r_[wave(40), np.zeros(30)], np.r_[np.nan, np.zeros(9)]]
    drawn = samples(made.predict([{"start": "2020", "target": target} for target in odd]))
    assert np.isfinite(drawn).all()
    assert (drawn[[1, 6]] == 0).all()
    assert (np.abs(drawn[[0, 2, 3, 4, 5]]).max((1, 2)) > 0).all()


@KINDS
def test_a_silent_context_takes_the_scale_of_the_history(conditional):
    made = predictor(conditional)
    series = series_of([{"start": "2020", "target": np.r_[6.0, -2.0, np.full(30, end)]} for end in (np.nan, 0)], made.config)
    scales = made.window(series).scale.flatten().tolist()
    assert scales == pytest.approx([4.0, 8 / 32])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": [np.nan] * 6}, "series 'b': all 6 values are missing, from row 0 on"),
        ({"target": []}, r"series 'b': target must have shape \(n,\) with n >= 1"),
        ({"target": [1.0, np.inf]}, "series 'b'.*row 1 has inf"),
        ({"start": pd.Period("2020", freq="D")}, "series 'b': start must have the model's frequency 'h', got 'D'"),
        ({"item_id": None, "target": [np.nan]}, "series number 1: all 1 values are missing"),
    ],
)
def test_bad_series_are_named(change, message):
    first, second = entries(2)
    with pytest.raises(ValueError, match=message):
        list(predictor().predict([first, {**second, **change}]))


@KINDS
def test_a_chain_that_diverges_names_its_series(conditional):
    made = predictor(conditional)
    with torch.no_grad():
        made.model.backbone.out_linear[2].bias.fill_(3e38)
    with pytest.raises(ValueError, match=r"of the series 'a', 'b', counted from 0: .*diverge"):
        list(made.predict(entries(2)))


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="num_samples must be at least 1"):
        predictor().predict(entries(1), num_samples=0)
    with pytest.raises(TypeError, match="got parallel besides"):
        predictor().predict(entries(1), parallel=True)
    with pytest.raises(ValueError, match="num_samples and batch_size"):
        predictor(batch_size=0)


def test_samples_are_synthetic_windows():
    made = predictor()
    drawn = made.sample(5, seed=3)
    assert drawn.shape == (5, 16)
    np.testing.assert_allclose(predictor(batch_size=2).sample(5, seed=3), drawn, rtol=1e-4, atol=1e-5)
    with pytest.raises(TypeError, match="unconditional"):
        predictor(conditional=True).sample(1)
    with pytest.raises(ValueError, match="without time features"):
        predictor(time_features=True).sample(1)


def test_seeds_share_no_noise_and_seed_0_is_as_it_was():
    made, data = predictor(), entries(2)
    drawn = [made.sample(3, seed=seed) for seed in (0, 1, -1, 2**31)]
    np.testing.assert_allclose(drawn[0], made.model.sample(3, noise=MemberNoise(0, 3))[..., 0], rtol=1e-6)
    window = made.model.window(torch.stack([torch.from_numpy(e["target"][-20:]) for e in data]))
    expected = DDPMGuidance(scale=1.0).sample(made.model, window, 3, seed=0)[..., 12:]
    np.testing.assert_allclose(samples(made.predict(data)), expected, rtol=1e-6)
    for a, b in itertools.combinations(drawn, 2):
        assert np.abs(a[:, None] - b[None]).max(-1).min() > 0.1


def test_runs_of_small_seeds_are_far_apart():
    for count in (2, 10, 1000):
        places = np.sort([path_seed(seed) for seed in range(count)])
        assert np.diff(np.append(places, places[0] + 2**32)).min() >= 2**32 / (3 * count)


# --- files

GUIDANCES = [
    None,
    DDIMGuidance(scale=0.5, skip=2, spacing="quadratic", energy=SquareEnergy()),
    DDPMGuidance(score_at="current"),
]


@pytest.mark.parametrize("guidance", GUIDANCES)
def test_a_kept_predictor_forecasts_the_same(guidance, tmp_path):
    made = predictor(guidance=guidance, seed=5, batch_size=7, covariates=1, covariate_statistics=((1.0, 2.0),))
    made.model.scaler.default_scale.fill_(3.5)
    made.serialize(tmp_path / "kept")
    assert sorted(p.name for p in (tmp_path / "kept").iterdir()) == [
        "config.json", "gluonts-config.json", "model.safetensors"
    ]  # fmt: skip
    data = entries(2, feat_dynamic_real=np.arange(94.0)[None])
    for again in (Predictor.deserialize(tmp_path / "kept", device="cpu"), TSDiffPredictor.deserialize(tmp_path / "kept")):
        assert again.config == made.config
        assert again.guidance == made.guidance
        assert (again.num_samples, again.batch_size, again.seed) == (3, 7, 5)
        assert float(again.model.scaler.default_scale) == 3.5
        np.testing.assert_array_equal(samples(again.predict(data)), samples(made.predict(data)))


@pytest.mark.slow
@KINDS
def test_a_fresh_process_forecasts_the_same(conditional, tmp_path):
    made = predictor(conditional, seed=2)
    made.serialize(tmp_path / "kept")
    script = (
        "import sys, numpy\nfrom pathlib import Path\nfrom tests.timeseries.waves import entries\n"
        "from gluonts.model.predictor import Predictor\nhere = Path(sys.argv[1])\n"
        "made = Predictor.deserialize(here / 'kept', device='cpu')\n"
        "numpy.save(here / 'out.npy', numpy.stack([f.samples for f in made.predict(entries(2))]))\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, check=True, timeout=300, capture_output=True)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), samples(made.predict(entries(2))), rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class_path": "os.system"}, "must have the class_path 'timeseries.predictor.TSDiffPredictor', got 'os.system'"),
        ({"guidance": {"class_path": "os.system", "init_args": {"energy": {"class_path": "x"}}}}, "class_path among"),
        ({"guidance": {"class_path": "timeseries.guidance.DDPMGuidance", "init_args": {}}}, "class_path among"),
        ({"config": {"freq": "h", "prediction_length": 4, "evil": 1}}, r"got \['evil'\]"),
        ({"config": {"freq": "h", "prediction_length": 4}}, "does not hold the weights of the configured TSDiff"),
        ({"forecast": {"num_samples": 3, "batch_size": 7, "seed": 0, "precise": 2}}, "and whether it is precise, got"),
        ({"forecast": {"num_samples": "many"}}, "must have whole batch_size, num_samples, seed"),
    ],
)
def test_settings_from_elsewhere_are_refused(change, message, tmp_path):
    predictor().serialize(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**settings, **change}))
    with pytest.raises(ValueError, match=message):
        TSDiffPredictor.deserialize(tmp_path)


def test_damaged_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        TSDiffPredictor.deserialize(tmp_path)
    predictor().serialize(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights["backbone.out_linear.0.bias"][0] = torch.nan
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"out_linear\.0\.bias has NaN"):
        TSDiffPredictor.deserialize(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="no file"):
        TSDiffPredictor.deserialize(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        TSDiffPredictor.deserialize(tmp_path)


def test_released_state_dicts_are_read_with_their_settings(tmp_path):
    made = predictor()
    weights = dict(made.model.state_dict())
    del weights["scaler.default_scale"], weights["scaler.minimum_scale"]
    weights["backbone.residual_blocks.0.feature_encoder.weight"] = torch.zeros(6, 8, 1)
    weights["backbone.residual_blocks.0.feature_encoder.bias"] = torch.zeros(6)
    torch.save(weights, tmp_path / "released.ckpt")
    again = TSDiffPredictor.from_checkpoint(tmp_path / "released.ckpt", made.config, device="cpu")
    np.testing.assert_array_equal(samples(again.predict(entries(2), 3)), samples(made.predict(entries(2))))
    with pytest.raises(ValueError, match="give config=TSDiffConfig"):
        TSDiffPredictor.from_checkpoint(tmp_path / "released.ckpt")


def test_checkpoints_of_the_official_training_are_read_without_its_packages(monkeypatch, tmp_path):
    """Lightning keeps the arguments of the model, a function that makes its schedule among them."""
    made, module = predictor(), ModuleType("uncond_ts_diff")
    exec("def linear_beta_schedule(timesteps): ...", module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    arguments = {"timesteps": 100, "diffusion_scheduler": module.linear_beta_schedule, "freq": "h"}
    content = {"epoch": 9, "state_dict": made.model.state_dict(), "hyper_parameters": arguments}
    torch.save(content, tmp_path / "last.ckpt")
    del sys.modules[module.__name__]
    again = TSDiffPredictor.from_checkpoint(tmp_path / "last.ckpt", made.config, device="cpu")
    np.testing.assert_array_equal(samples(again.predict(entries(2), 3)), samples(made.predict(entries(2))))


def test_the_module_of_a_checkpoint_is_its_model():
    module = TSDiffModule(config())
    assert list(module.model.state_dict()) == list(predictor().model.state_dict())


@pytest.mark.slow
def test_a_compiled_model_forecasts_the_same(tmp_path):
    made, data = predictor(seed=3), entries(2)
    expected = samples(made.predict(data))
    np.testing.assert_allclose(samples(made.compile().predict(data)), expected, rtol=1e-4)
    made.serialize(tmp_path / "model")
    kept = samples(TSDiffPredictor.deserialize(tmp_path / "model", "cpu").predict(data))
    np.testing.assert_array_equal(kept, expected)
