"""Rows of name and value for what a comparison found besides the bounds that decide."""

from __future__ import annotations

from typing import TYPE_CHECKING

from monitoring.comparison.secondary_figures import ALARM_LIMIT, LOWER_THRESHOLD, RECALL_FLOOR
from monitoring.core.measured import Measurement

if TYPE_CHECKING:
    from monitoring.comparison.paired import PairedResult


def appendix_of(result: PairedResult) -> list[tuple[str, object]]:
    """What a comparison found besides the bounds that decide."""
    rows: list[tuple[str, object]] = [("recall of the champion", interval(result.recall_champion))]
    rows += [("recall of the challenger", interval(result.recall_challenger))]
    rows += [(f"cost of the champion, {result.currency}", interval(result.cost_champion))]
    rows += [(f"cost of the challenger, {result.currency}", interval(result.cost_challenger))]
    appendix = result.appendix
    if appendix is None:
        return rows
    ratios = {
        "recall": appendix.recall,
        "precision": appendix.precision,
        "false-positive rate": appendix.false_positive_rate,
    }
    ratios[f"recall at {appendix.matched_alerts} alerts"] = appendix.matched
    rows += [(f"{name}, difference", interval(r.measured)) for name, r in ratios.items()]
    if appendix.gains_by_threshold_alone:
        rows += [("note", LOWER_THRESHOLD)]
    rows += [("saving a day, t interval", interval(appendix.saving.measured))]
    rows += [("average precision, difference", interval(appendix.average_precision.difference))]
    rows += [("AUC, difference", interval(appendix.auc.difference))]
    at_recall, at_alarms = appendix.precision_at_recall.difference, appendix.recall_at_alarms.difference
    rows += [(f"precision at recall {RECALL_FLOOR:g} and above, difference", interval(at_recall))]
    rows += [(f"recall at a false-positive rate of {ALARM_LIMIT:g} at most, difference", interval(at_alarms))]
    if appendix.card_precision is not None:
        rows += [("card precision, difference", interval(appendix.card_precision.difference))]
    rows += [("caught by the challenger only, by the champion only", f"{appendix.mcnemar.b}, {appendix.mcnemar.c}")]
    rows += [("McNemar mid-p", appendix.mcnemar.mid_p), ("recall, Bonett-Price", interval(appendix.bonett_price))]
    rows += [("unpaired t-test, legacy p", appendix.legacy_p), ("note", appendix.legacy_note)]
    return rows


def interval(figure: Measurement) -> str:
    """A value with its bounds, four digits each."""
    if figure.value is None:
        return "unknown"
    if figure.low is None or figure.high is None:
        return _number(figure.value)
    return f"{_number(figure.value)} ({_number(figure.low)} to {_number(figure.high)})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
