"""Pictures of one evaluation, as PNG files. Drawn without pyplot, so nothing is global."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from monitoring.performance.cost import Prices
from monitoring.performance.thresholds import cost_curve
from monitoring.stats.calibration_error import equal_mass_bins

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from bentos.model.booster import Booster

_SHAP_ROWS = 2_000


@dataclass(frozen=True, eq=False)
class PlotData:
    """What the pictures show: one test fold.

    Attributes:
        y: labels 0 and 1.
        probabilities: calibrated scores.
        threshold: the cut in use; none where it goes by the amount.
        prices: what the two mistakes cost.
        currency: unit of both.
        weight: how many events each row stands for; none where each stands for itself.
    """

    y: NDArray[np.int8]
    probabilities: NDArray[np.float64]
    threshold: float | None
    prices: Prices
    currency: str
    weight: NDArray[np.float64] | None = None

    def mean(self, values: NDArray[Any], rows: NDArray[np.bool_] | slice = slice(None)) -> float:
        """The mean over some rows, each for what it stands for."""
        return float(np.average(values[rows], weights=None if self.weight is None else self.weight[rows]))


@dataclass(frozen=True, eq=False)
class ShapSummary:
    """Mean absolute contribution (log odds) of each feature over a sample, largest first."""

    names: tuple[str, ...]
    mean_abs: tuple[float, ...]
    rows: int

    def to_json(self) -> dict[str, Any]:
        """A JSON object: rows and one figure a feature."""
        return {"rows": self.rows, "mean_abs": dict(zip(self.names, self.mean_abs, strict=True))}


def shap_summary(booster: Booster, features: NDArray[np.float32], names: Sequence[str], seed: int) -> ShapSummary:
    """Exact tree SHAP (``pred_contribs``) on at most 2,000 rows, drawn by ``seed``."""
    rows = len(features)
    sample = np.sort(np.random.default_rng(seed).permutation(rows)[:_SHAP_ROWS])
    contributions = booster.contributions(features[sample])[:, :-1]
    mean_abs = np.abs(contributions).mean(axis=0)
    order = np.argsort(-mean_abs, kind="stable")
    return ShapSummary(tuple(names[i] for i in order), tuple(float(mean_abs[i]) for i in order), rows=len(sample))


def draw_plots(data: PlotData, booster: Booster, shap: ShapSummary, folder: Path) -> list[Path]:
    """Write every picture into ``folder`` (made if missing) and return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    gains = dict(booster.importance(shap.names))
    files = [
        _draw_precision_recall(data, folder / "precision_recall.png"),
        _draw_calibration(data, folder / "calibration.png"),
        _draw_scores(data, folder / "score_distribution.png"),
        _draw_cost(data, folder / "cost_against_threshold.png"),
        _draw_bars(gains, "Total gain of each feature", "gain", folder / "importance.png"),
    ]
    strengths = dict(zip(shap.names, shap.mean_abs, strict=True))
    title = f"Mean |SHAP| over {shap.rows} test rows"
    return [*files, _draw_bars(strengths, title, "log odds", folder / "shap_summary.png")]


def _draw_precision_recall(data: PlotData, path: Path) -> Path:
    from sklearn.metrics import precision_recall_curve

    precision, recall, _ = precision_recall_curve(data.y, data.probabilities, sample_weight=data.weight)
    with _figure(path, "Precision and recall on the test window", "recall", "precision") as axes:
        axes.step(recall, precision, where="post")
        axes.axhline(data.mean(data.y), linestyle=":", label=f"prevalence {data.mean(data.y):.4f}")
        axes.legend()
    return path


def _draw_calibration(data: PlotData, path: Path) -> Path:
    bins = equal_mass_bins(data.probabilities, weight=data.weight)
    groups = [bins == group for group in np.unique(bins)]
    predicted = [data.mean(data.probabilities, group) for group in groups]
    observed = [data.mean(data.y, group) for group in groups]
    low = max(min([p for p in predicted if p > 0] or [1e-4]) / 2, 1e-6)
    with _figure(path, "Calibration in equal groups (log scale)", "mean score", "share of positives") as axes:
        axes.plot([low, 1.0], [low, 1.0], linestyle=":")
        axes.plot(np.maximum(predicted, low), np.maximum(observed, low), marker="o")
        axes.set_xscale("log")
        axes.set_yscale("log")
    return path


def _draw_scores(data: PlotData, path: Path) -> Path:
    edges = np.linspace(0.0, 1.0, 51).tolist()
    with _figure(path, "Calibrated scores", "score", "rows (log scale)") as axes:
        axes.hist(data.probabilities[data.y == 0], bins=edges, alpha=0.6, label="negative")
        axes.hist(data.probabilities[data.y == 1], bins=edges, alpha=0.6, label="positive")
        if data.threshold is not None:
            axes.axvline(data.threshold, linestyle="--", color="black", label=f"threshold {data.threshold:.4f}")
        axes.set_yscale("log")
        axes.legend()
    return path


def _draw_cost(data: PlotData, path: Path) -> Path:
    curve = cost_curve(data.y, data.probabilities, data.prices, weight=data.weight)
    with _figure(path, "Cost against threshold", "threshold", f"cost on the test window, {data.currency}") as axes:
        axes.plot(np.maximum(curve.threshold, 1e-6), curve.cost)
        axes.set_xscale("log")
        if data.threshold is not None:
            threshold = max(data.threshold, 1e-6)
            axes.axvline(threshold, linestyle="--", color="black", label=f"in use: {data.threshold:.4f}")
            axes.legend()
    return path


def _draw_bars(values: dict[str, float], title: str, unit: str, path: Path) -> Path:
    ranked = sorted(values.items(), key=lambda item: (item[1], item[0]))[-30:]
    with _figure(path, title, unit, "") as axes:
        axes.barh([name for name, _ in ranked], [value for _, value in ranked])
    return path


@contextmanager
def _figure(path: Path, title: str, x_label: str, y_label: str) -> Iterator[Axes]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 4.5))
    FigureCanvasAgg(figure)
    # Long feature names need the room on the left; measuring it costs half of the drawing.
    axes = figure.add_axes((0.3 if not y_label else 0.12, 0.12, 0.67 if not y_label else 0.84, 0.8))
    axes.set(title=title, xlabel=x_label, ylabel=y_label)
    yield axes
    figure.savefig(path, dpi=90)
