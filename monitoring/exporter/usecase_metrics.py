"""What the exporter tells of one use case, read from the database alone: reports, runs, journal, log.

Each function reads one thing and gives samples of :mod:`monitoring.exporter.catalogue`. Where data are missing or
too few there is no sample: a zero would say "no drift" or "no lag".
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, Final

from monitoring.core.measured import Measured, to_plain
from monitoring.drift.feature_skew import WORST
from monitoring.exporter.catalogue import Sample, sample, samples
from monitoring.stats.intervals import newcombe
from monitoring.store import Report, Store

BANDS: Final = {"none": 0, "warning": 1, "severe": 2}
_MATURED: Final = {
    "recall": "matured_recall_ratio",
    "precision": "matured_precision_ratio",
    "average_precision": "matured_average_precision_ratio",
    "calibration_ratio": "matured_calibration_ratio",
    "alert_rate": "matured_alert_ratio",
    "prevalence": "matured_prevalence_ratio",
}
_TESTS: Final = ("saving", "recall_gain", "false_positive_rate_rise")
_DAY: Final = 86_400.0


def drift(store: Store, usecase: str) -> Iterator[Sample]:
    """The newest drift check, feature by feature, and what hangs on it: performance, money, skew."""
    checks = store.reports.list(usecase, "drift", limit=50)
    if not checks:
        return
    newest = checks[-1]
    yield from sample("drift_checked_timestamp_seconds", usecase, max(r.stored_at for r in checks).timestamp())
    yield from sample("drift_severe_checks_in_a_row", usecase, _in_a_row(checks))
    yield from matured(store, newest)
    yield from money(newest)
    if newest.outcome in BANDS:
        yield from _features(newest)


def _in_a_row(checks: list[Report]) -> int:
    """How many of the newest checks said severe; of checks that saw the same windows the newest counts.

    Two looks at one day, five minutes apart, are one finding and no confirmation of each other.
    """
    outcomes = list({_looked_at(report): report.outcome for report in checks}.values())
    return next((at for at, outcome in enumerate(reversed(outcomes)) if outcome != "severe"), len(outcomes))


def _looked_at(report: Report) -> object:
    """The end of the newest window that a check looked at."""
    windows = report.payload.get("reports")
    newest = windows[-1] if isinstance(windows, list) and windows else None
    window = newest.get("window") if isinstance(newest, Mapping) else None
    return window["end"] if isinstance(window, Mapping) and "end" in window else report.as_of


def _features(report: Report) -> Iterator[Sample]:
    usecase, model, windows = report.usecase, report.model or "", report.payload["reports"]
    window, skew = windows[-1], report.payload.get("skew")
    yield from sample("drift_severity", usecase, BANDS[report.outcome], model)
    yield from sample("drift_rows", usecase, window["rows"], model)
    yield from sample("drift_features_ratio", usecase, window["share"], model)
    score = window["score"] or {}
    yield from sample("drift_score_psi", usecase, score.get("psi"), model)
    yield from sample("drift_score_excess_psi", usecase, score.get("excess"), model)
    for name, key in (
        ("drift_psi", "psi"),
        ("drift_excess_psi", "excess"),
        ("drift_ks", "ks"),
        ("feature_missing_ratio", "missing_share"),
        ("feature_unseen_ratio", "unseen_share"),
    ):
        yield from samples(name, usecase, [((model, one["name"]), one[key]) for one in window["features"]])
    if skew:
        yield from sample("skew_rows_ratio", usecase, skew["share"], model)
        yield from samples(
            "feature_skew_ratio", usecase, _skew(skew, model, [one["name"] for one in window["features"]])
        )


def _skew(skew: Mapping[str, Any], model: str, names: list[str]) -> list[tuple[tuple[str, ...], float | None]]:
    """The report names the features that differ, at most 20: below that the others were compared and are equal."""
    shares = {one["name"]: one["share"] for one in skew["features"]}
    if skew["rows"] and len(shares) < WORST:
        shares = dict.fromkeys(names, 0.0) | shares
    return [((model, name), share) for name, share in shares.items()]


def matured(store: Store, report: Report) -> Iterator[Sample]:
    """Figures of the latest matured days, and the recall lost since the model's training."""
    usecase, model = report.usecase, report.model or ""
    found = report.payload.get("performance")
    if found:
        for name, metric in _MATURED.items():
            yield from _interval(metric, usecase, found["metrics"].get(name), model)
        yield from sample("matured_rows", usecase, found["rows"], model)
        yield from sample("matured_positives", usecase, found["positives"], model)
    for name in ("recall", "precision"):
        guessed = (report.payload.get("estimate") or {}).get(name)
        yield from sample(f"estimated_{name}_ratio", usecase, _value(guessed), model)
    trained = store.reports.latest(usecase, "training", challenger=model, as_of=report.as_of)
    if trained is not None and "evidence" in trained.payload:
        then = trained.payload["evidence"]
        yield from _interval("trained_recall_ratio", usecase, then["metrics"].get("recall"), model)
        yield from _interval("matured_recall_loss_ratio", usecase, _loss(then, found), model)


def _loss(then: Mapping[str, Any], now: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Recall of the training's test window minus matured recall, with Newcombe's interval."""
    before, n1 = then["metrics"].get("recall", {}).get("value"), int(then["positives"])
    after, n2 = (now["metrics"].get("recall", {}).get("value"), int(now["positives"])) if now else (None, 0)
    if before is None or after is None or not n1 or not n2:
        return None
    plain: dict[str, Any] = to_plain(newcombe(round(before * n1), n1, round(after * n2), n2))
    return plain


def money(report: Report) -> Iterator[Sample]:
    """What a day costs, with final and with provisional labels, and the alerts it takes."""
    told = report.payload.get("money")
    if not told:
        return
    usecase, days = report.usecase, told["days"]
    yield from sample("label_maturity_seconds", usecase, told["matures_after_s"])
    yield from sample("capacity_alerts", usecase, told["capacity"])
    for state in ("final", "provisional"):
        costs = [day["cost"] for day in days if day["state"] == state]
        mean = sum(costs) / len(costs) if costs else None
        yield from sample("daily_cost", usecase, mean, state, told["currency"])
    yield from sample("daily_alerts", usecase, days[-1]["alerts"] if days else None)
    yield from sample("forecast_alerts", usecase, _forecast(days))


def _forecast(days: Sequence[Mapping[str, Any]]) -> float | None:
    """Of the business day after the newest whole one."""
    counts = {date.fromisoformat(day["day"]): int(day["alerts"]) for day in days if "day" in day}
    return forecast_alerts(counts, max(counts) + timedelta(days=1)) if counts else None


def comparison(store: Store, usecase: str) -> Iterator[Sample]:
    """The newest comparison: evidence, bounds, what is still needed."""
    report = store.reports.latest(usecase, "comparison")
    if report is None:
        return
    name, result, verdict = report.challenger or "", report.payload["result"], report.payload["verdict"]
    yield from sample("comparison_outcome", usecase, 1, name, report.outcome)
    yield from sample("comparison_checked_timestamp_seconds", usecase, report.stored_at.timestamp(), name)
    yield from sample("comparison_matured_seconds", usecase, result["days"] * _DAY, name)
    needed = verdict.get("days_needed")
    remaining = None if needed is None else max(0, needed - result["days"]) * _DAY
    yield from sample("comparison_remaining_seconds", usecase, remaining, name)
    for test in _TESTS:
        found = result[test]
        power = None if found["log_e"] is None else found["log_e"] / math.log(10)
        yield from sample("comparison_e_value_log10", usecase, power, name, test)
        bounds = {"value": found["mean"], "low": found["low"], "high": found["high"]}
        yield from samples("comparison_gain", usecase, [((name, test, b), v) for b, v in bounds.items()])
    for role in ("champion", "challenger"):
        yield from _interval("comparison_recall_ratio", usecase, result[f"recall_{role}"], name, role)
        total, days = result[f"cost_{role}"]["value"], result["days"]
        mean = total / days if days and total is not None else None
        yield from sample("comparison_daily_cost", usecase, mean, name, role, result["currency"])


def flows(store: Store, usecase: str, now: datetime) -> Iterator[Sample]:
    """When each flow last succeeded and failed, and how long one is running."""
    runs = [*store.runs.running(usecase), *store.runs.last_ended(usecase)]
    for flow in sorted({run.flow for run in runs}):
        ours = [run for run in runs if run.flow == flow]
        ended = [run for run in ours if run.ended_at is not None]
        # A process that was killed leaves its run as running; a later one that ended says that it is gone.
        since = max((run.started_at for run in ended), default=None)
        running = [r.started_at for r in ours if r.state == "running" and (since is None or r.started_at > since)]
        for name, states in (
            ("flow_success_timestamp_seconds", ("completed",)),
            ("flow_failure_timestamp_seconds", ("failed", "killed")),
        ):
            times = [run.ended_at.timestamp() for run in ended if run.state in states and run.ended_at]
            yield from sample(name, usecase, max(times, default=None), flow)
        if ended:
            last = max(ended, key=lambda run: run.ended_at or run.started_at)
            yield from sample("flow_failing", usecase, int(last.state != "completed"), flow)
            length = (last.ended_at or last.started_at) - last.started_at
            yield from sample("flow_duration_seconds", usecase, length.total_seconds(), flow)
        if running:
            yield from sample("flow_running_seconds", usecase, (now - max(running)).total_seconds(), flow)


def replicas(store: Store, usecase: str) -> Iterator[Sample]:
    """What each living replica answers with, against what holds office."""
    living = store.serving.live(usecase, within_seconds=60.0)
    yield from sample("replicas", usecase, len(living))
    for one in living:
        labels = (one.model, one.replica)
        yield from sample("replica_served_version", usecase, number(one.version), *labels)
        yield from sample("replica_alias_version", usecase, number(one.champion), *labels)
        yield from sample("replica_heartbeat_timestamp_seconds", usecase, one.seen_at.timestamp(), *labels)
        terms = store.decisions.terms(one.model, "champion")
        if terms:
            # While nobody holds the role an external score answers, as version 0, or nothing does.
            expected = {None, "0"} if terms[-1][0] is None else {terms[-1][0]}
            yield from sample("replica_mismatch", usecase, int(one.version not in expected), *labels)


def routing(store: Store, usecase: str) -> Iterator[Sample]:
    """Whether the arms of the present routing policy have the units that they should have."""
    changes: dict[str, str] = {}
    told = set()
    for row in store.decisions.list(usecase, ("routing",)):
        if "policy" in row.payload:
            changes[str(row.payload["model"])] = str(row.payload["digest"])
        elif row.payload["event"] == "mismatch":
            told.add(str(row.payload["routing"]))
    for model, digest in changes.items():
        yield from sample("routing_mismatch", usecase, int(digest in told), model)


def number(version: str | None) -> float:
    """A version as a number; 0 for none and for a version that is no number."""
    return float(version) if version is not None and version.isdigit() else 0.0


def _value(found: object) -> float | None:
    value = found.get("value") if isinstance(found, Mapping) else found
    return value if isinstance(value, int | float) else None


def _interval(metric: str, usecase: str, found: Mapping[str, Any] | None, *labels: str) -> Iterator[Sample]:
    known = found or to_plain(Measured(None))
    return samples(metric, usecase, [((*labels, bound), known.get(bound)) for bound in ("value", "low", "high")])


WEEK: Final = 7


def forecast_alerts(counts: Mapping[date, int], day: date) -> float | None:
    """Expected alerts of ``day``: the mean of the same weekday, scaled to the level of the latest week.

    Args:
        counts: alerts of whole business days; later days than ``day`` and ``day`` itself are not looked at.
        day: the business day that is asked for.

    Returns:
        The forecast, or ``None`` unless all seven days before ``day`` are known: a forecast from fewer
        would hold no weekend, or no working day.
    """
    past = {d: n for d, n in counts.items() if d < day}
    week = [past.get(day - timedelta(days=back)) for back in range(1, WEEK + 1)]
    known = [n for n in week if n is not None]
    if len(known) < WEEK:
        return None
    same = [n for d, n in past.items() if d.weekday() == day.weekday()]
    # Whole weeks alone tell the level: a half week would count some weekdays more often than others.
    weeks = len(past) // WEEK
    whole = [past.get(day - timedelta(days=back), 0) for back in range(1, weeks * WEEK + 1)]
    level = sum(whole) / len(whole)
    scale = sum(known) / WEEK / level if level else 0.0
    return sum(same) / len(same) * scale
