"""Training: the curves, a heat map of every grid search, and the settings chosen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, NullFormatter
from numpy.typing import NDArray

from skinray.report.biopsies.results import Curve, CurvePoint, RunResults, TrialRow
from skinray.report.biopsies.scores import spread
from skinray.report.charts import COLOURS, INK, STYLE, Chart, to_svg
from skinray.report.tables import Table, TableRow

# Settings that come first as axes of a grid.
FIRST = {"learning rate": 0, "weight decay": 1}
Grid = dict[tuple[Any, Any], float]
# A configuration, and the splits that it was chosen for.
SettingsOfSplits = tuple[dict[str, Any], list[str]]


def training_curves(curves: Sequence[Curve]) -> list[Chart]:
    """Draw loss, validation score and learning rate: a chart per arm, a line per split."""
    arms = dict.fromkeys((curve.stage, curve.arm) for curve in curves)
    return [
        _curve_chart(stage, arm, [c for c in curves if (c.stage, c.arm) == (stage, arm)])
        for stage, arm in arms
    ]


def grid_charts(results: RunResults) -> list[Chart]:
    """Draw the validation score by the two searched settings, a chart per arm."""
    tried = [trial for trial in results.trials if trial.phase == "tune"]
    charts = []
    for stage, label in dict.fromkeys((trial.stage, trial.arm) for trial in tried):
        trials = [trial for trial in tried if (trial.stage, trial.arm) == (stage, label)]
        chosen = [params for params, _ in _chosen(results, stage, label)]
        chart = _grid_chart(f"{stage.capitalize()}: {label}", trials, chosen)
        charts += [chart] if chart else []
    return charts


def choice_table(results: RunResults) -> Table:
    """Return the configuration that each split of a searched arm was trained with."""
    tried = [trial for trial in results.trials if trial.phase == "tune"]
    keys = list(dict.fromkeys(key for trial in tried for key in trial.params))
    rows = [
        TableRow(
            (
                f"{stage.capitalize()}: {label}",
                *(_shown(params[key]) if key in params else "" for key in keys),
                _splits(splits),
            )
        )
        for stage, label in dict.fromkeys((trial.stage, trial.arm) for trial in tried)
        for params, splits in _chosen(results, stage, label)
    ]
    title = "Settings chosen by the search"
    return Table(title, ("", *(_name(key) for key in keys), "chosen for"), tuple(rows))


def _chosen(results: RunResults, stage: str, label: str) -> list[SettingsOfSplits]:
    """Return the configurations of an arm's final trainings, each with its splits."""
    found: dict[str, SettingsOfSplits] = {}
    for trial in results.trials:
        if (trial.phase, trial.stage, trial.arm) == ("fit", stage, label):
            key = repr(sorted(trial.params.items()))
            found.setdefault(key, (trial.params, []))[1].append(trial.split)
    return list(found.values())


def _curve_chart(stage: str, arm: str, curves: Sequence[Curve]) -> Chart:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10.2, 2.7), layout="constrained")
        loss, validation, rate = figure.subplots(1, 3)
        few = len(curves) <= len(COLOURS)
        for index, curve in enumerate(curves):
            colour = COLOURS[index % len(COLOURS)]
            look = {"color": colour, "linewidth": 1.4 if few else 0.7, "alpha": 1 if few else 0.5}
            epochs = [point.epoch for point in curve.points]
            losses = [_finite(point.loss) for point in curve.points]
            loss.plot(epochs, losses, label=_split(curve.split), **look)
            rate.plot(epochs, [_finite(point.learning_rate) for point in curve.points], **look)
            checked = _checked(curve.points)
            scores = [point.validation for point in checked]
            validation.plot([point.epoch for point in checked], scores, marker=".", **look)
        score = "validation, 1 - loss" if stage == "skin" else "validation Dice"
        for place, name in ((loss, "training loss"), (validation, score)):
            place.set(title=name, xlabel="epoch")
        rate.set(title="learning rate", xlabel="epoch")
        if any(point.learning_rate > 0 for curve in curves for point in curve.points):
            rate.set_yscale("log")
            rate.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            rate.yaxis.set_minor_formatter(NullFormatter())
        if not any(_checked(curve.points) for curve in curves):
            centre = {"transform": validation.transAxes, "ha": "center", "va": "center"}
            validation.text(0.5, 0.5, "no validation images", **centre)
        if few and len(curves) > 1:
            figure.legend(loc="outside right center")
        svg = to_svg(figure)
    ends = spread(curve.points[-1].loss for curve in curves if curve.points)
    end = f"final loss {ends.mean:.3f} on average" if ends else "no finite loss"
    shown = f"loss, {score} and learning rate by epoch; {end}."
    alt = f"Training curves of {arm} over {len(curves)} splits: {shown}"
    return Chart(f"{stage.capitalize()}: {arm}", alt, "", svg)


def _checked(points: Sequence[CurvePoint]) -> list[CurvePoint]:
    return [p for p in points if p.validation is not None and math.isfinite(p.validation)]


def _finite(value: float) -> float:
    return value if math.isfinite(value) else math.nan


def _grid_chart(
    title: str, trials: Sequence[TrialRow], chosen: Sequence[dict[str, Any]]
) -> Chart | None:
    searched = _searched(trials)
    if not searched:
        return None
    across, down = searched[0], searched[1] if len(searched) > 1 else None
    grid = _best_scores(trials, across, down)
    xs, ys = (sorted({cell[i] for cell in grid}, key=_order) for i in (0, 1))
    values = np.array([[grid[x, y] for x in xs] for y in ys], dtype=np.float64)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(1.7 + 0.85 * len(xs), 1.0 + 0.5 * len(ys)), layout="constrained")
        place = figure.subplots()
        _heat_map(place, values)
        place.set_xticks(range(len(xs)), [_shown(x) for x in xs])
        place.set_yticks(range(len(ys)), [_shown(y) for y in ys] if down else [""])
        place.set(xlabel=_name(across), ylabel=_name(down) if down else "")
        for params in chosen:
            _outline(place, xs, ys, params.get(across), params.get(down) if down else None)
        svg = to_svg(figure)
    best = spread(values.ravel().tolist())
    top = f"best {np.nanmax(values):.3f}, worst {np.nanmin(values):.3f}" if best else "none scored"
    names = " and ".join(_name(path) for path in searched[:2])
    alt = f"Heat map of the mean validation Dice of {title} by {names}: {top}."
    best_of_others = "Each cell is the best over the other settings searched."
    return Chart(title, alt, best_of_others if len(searched) > 2 else "", svg)


def _searched(trials: Sequence[TrialRow]) -> list[str]:
    """Return the settings that differ between trials, learning rate and weight decay first."""
    keys = dict.fromkeys(key for trial in trials for key in trial.params)
    differ = [k for k in keys if len({_shown(trial.params.get(k)) for trial in trials}) > 1]
    return sorted(differ, key=lambda path: (_name(path) not in FIRST, FIRST.get(_name(path), 0)))


def _best_scores(trials: Sequence[TrialRow], across: str, down: str | None) -> Grid:
    """Mean score over splits of each configuration; the best one if several share a cell.

    Of a configuration that was in several rounds, the scores of the longest count.
    """
    longest: dict[str, int] = {}
    for trial in trials:
        mark = _mark(trial)
        longest[mark] = max(trial.epochs_asked, longest.get(mark, 0))
    splits: dict[tuple[Any, Any, str], list[float | None]] = {}
    for trial in trials:
        place = (trial.params.get(across), trial.params.get(down) if down else None)
        if trial.epochs_asked == longest[_mark(trial)]:
            splits.setdefault((*place, _mark(trial)), []).append(trial.score)
    xs, ys = ({key[i] for key in splits} for i in (0, 1))
    grid: Grid = {(x, y): math.nan for x in xs for y in ys}
    for (x, y, _), scores in splits.items():
        mean = spread(scores)
        if mean and not grid[x, y] >= mean.mean:
            grid[x, y] = mean.mean
    return grid


def _mark(trial: TrialRow) -> str:
    return repr(sorted(trial.params.items()))


def _heat_map(place: Axes, values: NDArray[np.float64]) -> None:
    place.grid(visible=False)
    place.set_facecolor("#eceff2")
    shown = place.imshow(values, cmap="cividis", aspect="auto")
    low, high = shown.get_clim() if np.isfinite(values).any() else (0.0, 1.0)
    for (row, column), value in np.ndenumerate(values):
        if math.isnan(value):
            place.text(column, row, "failed", ha="center", va="center", fontsize=9)
            continue
        light = high > low and (value - low) / (high - low) > 0.5
        ink = INK if light else "white"
        place.text(column, row, f"{value:.3f}", ha="center", va="center", color=ink)


def _outline(place: Axes, xs: list[Any], ys: list[Any], x: Any, y: Any) -> None:
    if x in xs and y in ys:
        corner = (xs.index(x) - 0.5, ys.index(y) - 0.5)
        for width, colour in ((5, "white"), (2.5, "#D55E00")):
            frame = Rectangle(corner, 1, 1, fill=False, edgecolor=colour, linewidth=width)
            place.add_patch(frame)


def _order(value: Any) -> tuple[bool, float, str]:
    if isinstance(value, (int, float)):
        return False, float(value), ""
    return True, 0.0, str(value)


def _name(path: str) -> str:
    return path.rsplit(".", 1)[-1].replace("_", " ")


def _split(name: str) -> str:
    return {"components": "component split", "all": "all images"}.get(name, name.replace("-", " "))


def _splits(names: Sequence[str]) -> str:
    folds = [name.removeprefix("fold-") for name in names if name.startswith("fold-")]
    rest = [_split(name) for name in names if not name.startswith("fold-")]
    first = [f"fold{'s' if len(folds) > 1 else ''} {', '.join(folds)}"] if folds else []
    return "; ".join([*first, *rest])


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
