"""Forecasts of the shared series: seasonal naive, ridge regression, DeepAR, and TSDiff where its weights are given.

    python -m benchmarks.forecasts --data ../shared/data/timeseries [--sets exchange m4 pjm etth1 air_quality taxi]
        [--only PATTERN ...] [--windows N] [--first N] [--paths 100] [--weights exchange=FOLDER ...] [--json FILE]
        [--plots FOLDER] [--studies forecast missing refine lps]

Every method is trained on what precedes the test windows, and forecasts each window from all that precedes it. CRPS is the
mean weighted quantile loss at 0.1, ..., 0.9, ND the normalised deviation of the median, NRMSE the normalised root mean square
error of the mean, as the GluonTS ``Evaluator`` defines them over all series and windows; of a point forecast CRPS is ND.

``--weights`` names folders that ``TSDiffPredictor.serialize`` wrote, as ``SET=FOLDER``, or ``SET:LABEL=FOLDER`` for several of
a set. Of the studies, ``missing`` hides half of the context at random (RM), at its beginning (BM-B) or end (BM-E), ``refine``
lets the model refine the two baselines, and ``lps`` fits forecasters on 10,000 windows, real ones and the model's, and scores
them on the test windows. With ``--json`` the rows of other methods, sets, sizes and studies that the file holds are kept.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from gluonts.model.predictor import Predictor
from rich.console import Console

from benchmarks.forecasts.methods import BASELINES, Method, deepar, downstreams, models, shipped, weights_of
from benchmarks.forecasts.pictures import draw
from benchmarks.forecasts.rows import Row, forecasts, row, table, timed
from benchmarks.forecasts.sets import SETS, SeriesSet, present, read_set
from benchmarks.forecasts.studies import lps, missing, refined
from benchmarks.timing import machine
from timeseries.predictor import TSDiffPredictor

Rows = list[Row]
STUDIES = ("forecast", "missing", "refine", "lps")
IDENTITY = ("study", "set", "method", "series", "windows", "paths")
"""What makes a row another one in the file of ``--json``."""


def wanted(args: argparse.Namespace, name: str) -> bool:
    """Whether ``--only`` lets the method through."""
    return not args.only or any(re.search(word, name, re.IGNORECASE) for word in args.only)


def make(args: argparse.Namespace, names: Sequence[str], folders: dict[str, dict[str, Path]], console: Console) -> Rows:
    """All sets, with the models in ``folders``, written as they are done."""
    rows: Rows = []
    for name in names:
        data = read_set(args.data, name, windows=args.windows, first=args.first)
        given = models(folders.get(name, {}), data, device=args.device)
        given = {label: model for label, model in given.items() if wanted(args, label)}
        rows += measured(args, data, given)
        _write(args, rows)
        console.print(f"{name}: {len(data.test)} forecasts of {data.horizon} steps done")
    return rows


def measured(args: argparse.Namespace, data: SeriesSet, given: dict[str, TSDiffPredictor]) -> Rows:
    """The studies of one set that are asked for."""
    rows: Rows = []
    fitted: dict[str, Predictor] = {}
    asked = set(args.studies) != {"lps"}  # which fits forecasters of its own
    for method in (*BASELINES, deepar(args.epochs, args.batches, seed=args.seed, accelerator=_accelerator(args.device))):
        if asked and wanted(args, method.name):
            fitted[method.name], seconds = timed(partial(method.fit, data))
            if "forecast" in args.studies:
                rows.append(_forecast(args, data, method, fitted[method.name], seconds))
    if "forecast" in args.studies:
        rows += [_forecast(args, data, shipped(name, model, args.device), model, None) for name, model in given.items()]
    if "missing" in args.studies:
        rows += missing(data, {**fitted, **given}, args.paths)
    unconditional = {name: model for name, model in given.items() if not model.config.conditional}
    if "refine" in args.studies:
        bases = {method.name: fitted[method.name] for method in BASELINES if method.name in fitted}
        for name, model in unconditional.items():
            rows += refined(data, bases, name, model, args.paths)
    if "lps" in args.studies:
        made = downstreams(data.freq, args.epochs, args.batches, seed=args.seed, accelerator=_accelerator(args.device))
        chosen = {name: one for name, one in made.items() if wanted(args, name)}
        rows += lps(data, unconditional, chosen, args.paths, windows=args.synthetic)
    return rows


def _forecast(args: argparse.Namespace, data: SeriesSet, method: Method, predictor: Predictor, fit: float | None) -> Row:
    samples, seconds = timed(partial(forecasts, predictor, data.test, args.paths))
    if args.plots is not None:
        draw(args.plots, data, method.name, samples)
    return row(data, "forecast", method.name, samples, (fit, seconds), method.settings)


def _accelerator(device: str) -> str:
    return "cpu" if device == "cpu" else "auto"


def _write(args: argparse.Namespace, rows: Sequence[Row]) -> None:
    """``rows`` in the place of those of the same study, set, method and size."""
    if args.json is None:
        return
    before = json.loads(args.json.read_text(encoding="utf-8")) if args.json.exists() else []
    merged = {tuple(r[name] for name in IDENTITY): r for r in [*before, *map(asdict, rows)]}
    args.json.write_text(json.dumps(list(merged.values()), indent=1) + "\n", encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the archives")
    parser.add_argument("--sets", nargs="+", default=list(SETS), help=" ".join(SETS))
    only = "regular expressions; the methods that match one: seasonal naive, ridge-linear, DeepAR, Transformer, TSDiff"
    parser.add_argument("--only", nargs="+", default=[], metavar="PATTERN", help=only)
    parser.add_argument("--windows", type=int, help="test windows of each series, the last ones; all by default")
    parser.add_argument("--first", type=int, help="series of each set")
    parser.add_argument("--paths", type=int, default=100, help="of a forecast")
    parser.add_argument("--weights", nargs="+", default=[], metavar="SET=FOLDER", help="predictors of TSDiff")
    parser.add_argument("--studies", nargs="+", choices=STUDIES, default=["forecast"], help="refine needs --weights")
    parser.add_argument("--synthetic", type=int, default=10_000, help="windows for lps")
    parser.add_argument("--epochs", type=int, default=20, help="of DeepAR and Transformer")
    parser.add_argument("--batches", type=int, default=50, help="of their epochs")
    parser.add_argument("--seed", type=int, default=0, help="of their training")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="for fan charts of the last window of a few series")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the tables and, if asked, write JSON and pictures."""
    parser = _parser()
    args = parser.parse_args(arguments)
    for name in ("windows", "first", "paths", "synthetic", "epochs", "batches"):
        value = getattr(args, name)
        if value is not None and value < 1:
            parser.error(f"--{name} must be at least 1, got {value}")
    if "refine" in args.studies and not args.weights:
        parser.error("--studies refine needs a model; give --weights SET=FOLDER")
    console = Console(width=130)
    try:
        folders = weights_of(args.weights, list(SETS))
        names = present(args.data, args.sets, console.print)
    except ValueError as error:
        parser.error(str(error))
    rows = make(args, names, folders, console)
    for study in dict.fromkeys(r.study for r in rows):
        console.print(table(study, [r for r in rows if r.study == study]))
    console.print(machine())


if __name__ == "__main__":
    main()
