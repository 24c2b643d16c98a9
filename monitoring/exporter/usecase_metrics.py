"""What the exporter tells of one use case, read from the database alone: reports, runs, journal, log.

Each function reads one thing and gives samples of :mod:`monitoring.exporter.catalogue`. Where data are missing or
too few there is no sample: a zero would say "no drift" or "no lag".
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, Final

from monitoring.core.measured import Measurement, to_plain
from monitoring.drift.feature_skew import MAX_FEATURES
from monitoring.exporter.catalogue import Sample, sample, samples
from monitoring.stats.intervals import newcombe
from monitoring.store import Report, Store

BANDS: Final = {"none": 0, "warning": 1, "severe": 2}
_MATURED_METRICS: Final = {
    "recall": "matured_recall_ratio",
    "precision": "matured_precision_ratio",
    "average_precision": "matured_average_precision_ratio",
    "calibration_ratio": "matured_calibration_ratio",
    "alert_rate": "matured_alert_ratio",
    "prevalence": "matured_prevalence_ratio",
}
_TESTS: Final = ("saving", "recall_gain", "false_positive_rate_rise")
_DAY: Final = 86_400.0


def drift_samples(store: Store, usecase: str) -> Iterator[Sample]:
    """The newest drift check, feature by feature, and what hangs on it: performance, money, skew."""
    checks = store.reports.list(usecase, "drift", limit=50)
    if not checks:
        return
    newest = checks[-1]
    yield from sample("drift_checked_timestamp_seconds", usecase, max(r.stored_at for r in checks).timestamp())
    yield from sample("drift_severe_checks_in_a_row", usecase, _count_severe_in_a_row(checks))
    yield from matured_samples(store, newest)
    yield from money_samples(newest)
    if newest.outcome in BANDS:
        yield from _feature_samples(newest)


def _count_severe_in_a_row(checks: list[Report]) -> int:
    """How many of the newest checks said severe; of checks that saw the same windows the newest counts.

    Two looks at one day, five minutes apart, are one finding and no confirmation of each other.
    """
    outcomes = list({_window_end(report): report.outcome for report in checks}.values())
    return next((index for index, outcome in enumerate(reversed(outcomes)) if outcome != "severe"), len(outcomes))


def _window_end(report: Report) -> object:
    """The end of the newest window that a check looked at."""
    windows = report.payload.get("reports")
    newest = windows[-1] if isinstance(windows, list) and windows else None
    window = newest.get("window") if isinstance(newest, Mapping) else None
    return window["end"] if isinstance(window, Mapping) and "end" in window else report.as_of


def _feature_samples(report: Report) -> Iterator[Sample]:
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
        yield from samples(name, usecase, [((model, feature["name"]), feature[key]) for feature in window["features"]])
    if skew:
        yield from sample("skew_rows_ratio", usecase, skew["share"], model)
        yield from samples(
            "feature_skew_ratio", usecase, _skew_rows(skew, model, [feature["name"] for feature in window["features"]])
        )


def _skew_rows(skew: Mapping[str, Any], model: str, names: list[str]) -> list[tuple[tuple[str, ...], float | None]]:
    """The report names the features that differ, at most 20: below that the others were compared and are equal."""
    shares = {feature["name"]: feature["share"] for feature in skew["features"]}
    if skew["rows"] and len(shares) < MAX_FEATURES:
        shares = dict.fromkeys(names, 0.0) | shares
    return [((model, name), share) for name, share in shares.items()]


def matured_samples(store: Store, report: Report) -> Iterator[Sample]:
    """Figures of the latest matured days, and the recall lost since the model's training."""
    usecase, model = report.usecase, report.model or ""
    performance = report.payload.get("performance")
    if performance:
        for name, metric in _MATURED_METRICS.items():
            yield from _interval_samples(metric, usecase, performance["metrics"].get(name), model)
        yield from sample("matured_rows", usecase, performance["rows"], model)
        yield from sample("matured_positives", usecase, performance["positives"], model)
    for name in ("recall", "precision"):
        estimate = (report.payload.get("estimate") or {}).get(name)
        yield from sample(f"estimated_{name}_ratio", usecase, _value(estimate), model)
    training_report = store.reports.latest(usecase, "training", challenger=model, as_of=report.as_of)
    if training_report is not None and "evidence" in training_report.payload:
        training_evidence = training_report.payload["evidence"]
        yield from _interval_samples("trained_recall_ratio", usecase, training_evidence["metrics"].get("recall"), model)
        yield from _interval_samples("matured_recall_loss_ratio", usecase, _loss(training_evidence, performance), model)


def _loss(training: Mapping[str, Any], matured_performance: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Recall of the training's test window minus matured recall, with Newcombe's interval."""
    training_recall, n1 = training["metrics"].get("recall", {}).get("value"), int(training["positives"])
    matured_recall, n2 = (
        (matured_performance["metrics"].get("recall", {}).get("value"), int(matured_performance["positives"]))
        if matured_performance
        else (None, 0)
    )
    if training_recall is None or matured_recall is None or not n1 or not n2:
        return None
    plain: dict[str, Any] = to_plain(newcombe(round(training_recall * n1), n1, round(matured_recall * n2), n2))
    return plain


def money_samples(report: Report) -> Iterator[Sample]:
    """What a day costs, with final and with provisional labels, and the alerts it takes."""
    money_payload = report.payload.get("money")
    if not money_payload:
        return
    usecase, days = report.usecase, money_payload["days"]
    yield from sample("label_maturity_seconds", usecase, money_payload["matures_after_s"])
    yield from sample("capacity_alerts", usecase, money_payload["capacity"])
    for state in ("final", "provisional"):
        costs = [day["cost"] for day in days if day["state"] == state]
        mean = sum(costs) / len(costs) if costs else None
        yield from sample("daily_cost", usecase, mean, state, money_payload["currency"])
    yield from sample("daily_alerts", usecase, days[-1]["alerts"] if days else None)
    yield from sample("forecast_alerts", usecase, _forecast(days))


def _forecast(days: Sequence[Mapping[str, Any]]) -> float | None:
    """Of the business day after the newest whole one."""
    counts = {date.fromisoformat(day["day"]): int(day["alerts"]) for day in days if "day" in day}
    return forecast_alerts(counts, max(counts) + timedelta(days=1)) if counts else None


def comparison_samples(store: Store, usecase: str) -> Iterator[Sample]:
    """The newest comparison: evidence, bounds, what is still needed."""
    report = store.reports.latest(usecase, "comparison")
    if report is None:
        return
    name, result, verdict = report.challenger or "", report.payload["result"], report.payload["verdict"]
    yield from sample("comparison_outcome", usecase, 1, name, report.outcome)
    yield from sample("comparison_checked_timestamp_seconds", usecase, report.stored_at.timestamp(), name)
    yield from sample("comparison_matured_seconds", usecase, result["days"] * _DAY, name)
    days_needed = verdict.get("days_needed")
    remaining = None if days_needed is None else max(0, days_needed - result["days"]) * _DAY
    yield from sample("comparison_remaining_seconds", usecase, remaining, name)
    for test in _TESTS:
        figures = result[test]
        power = None if figures["log_e"] is None else figures["log_e"] / math.log(10)
        yield from sample("comparison_e_value_log10", usecase, power, name, test)
        bounds = {"value": figures["mean"], "low": figures["low"], "high": figures["high"]}
        yield from samples("comparison_gain", usecase, [((name, test, b), v) for b, v in bounds.items()])
    for role in ("champion", "challenger"):
        yield from _interval_samples("comparison_recall_ratio", usecase, result[f"recall_{role}"], name, role)
        total, days = result[f"cost_{role}"]["value"], result["days"]
        mean = total / days if days and total is not None else None
        yield from sample("comparison_daily_cost", usecase, mean, name, role, result["currency"])


def flow_samples(store: Store, usecase: str, now: datetime) -> Iterator[Sample]:
    """When each flow last succeeded and failed, and how long one is running."""
    runs = [*store.runs.running(usecase), *store.runs.last_ended(usecase)]
    for flow in sorted({run.flow for run in runs}):
        flow_runs = [run for run in runs if run.flow == flow]
        ended_runs = [run for run in flow_runs if run.ended_at is not None]
        # A process that was killed leaves its run as running; a later one that ended says that it is gone.
        last_start = max((run.started_at for run in ended_runs), default=None)
        running_since = [
            r.started_at
            for r in flow_runs
            if r.state == "running" and (last_start is None or r.started_at > last_start)
        ]
        for name, states in (
            ("flow_success_timestamp_seconds", ("completed",)),
            ("flow_failure_timestamp_seconds", ("failed", "killed")),
        ):
            times = [run.ended_at.timestamp() for run in ended_runs if run.state in states and run.ended_at]
            yield from sample(name, usecase, max(times, default=None), flow)
        if ended_runs:
            last_run = max(ended_runs, key=lambda run: run.ended_at or run.started_at)
            yield from sample("flow_failing", usecase, int(last_run.state != "completed"), flow)
            length = (last_run.ended_at or last_run.started_at) - last_run.started_at
            yield from sample("flow_duration_seconds", usecase, length.total_seconds(), flow)
        if running_since:
            yield from sample("flow_running_seconds", usecase, (now - max(running_since)).total_seconds(), flow)


def replica_samples(store: Store, usecase: str) -> Iterator[Sample]:
    """What each living replica answers with, against what is champion."""
    live_replicas = store.serving.live(usecase, within_seconds=60.0)
    yield from sample("replicas", usecase, len(live_replicas))
    for replica in live_replicas:
        labels = (replica.model, replica.replica)
        yield from sample("replica_served_version", usecase, version_number(replica.version), *labels)
        yield from sample("replica_alias_version", usecase, version_number(replica.champion), *labels)
        yield from sample("replica_heartbeat_timestamp_seconds", usecase, replica.seen_at.timestamp(), *labels)
        terms = store.decisions.terms(replica.model, "champion")
        if terms:
            # While nobody holds the role an external score answers, as version 0, or nothing does.
            expected_versions = {None, "0"} if terms[-1][0] is None else {terms[-1][0]}
            yield from sample("replica_mismatch", usecase, int(replica.version not in expected_versions), *labels)


def routing_samples(store: Store, usecase: str) -> Iterator[Sample]:
    """Whether the arms of the present routing policy have the units that they should have."""
    digest_by_model: dict[str, str] = {}
    mismatched_digests = set()
    for row in store.decisions.list(usecase, ("routing",)):
        if "policy" in row.payload:
            digest_by_model[str(row.payload["model"])] = str(row.payload["digest"])
        elif row.payload["event"] == "mismatch":
            mismatched_digests.add(str(row.payload["routing"]))
    for model, digest in digest_by_model.items():
        yield from sample("routing_mismatch", usecase, int(digest in mismatched_digests), model)


def version_number(version: str | None) -> float:
    """A version as a number; 0 for none and for a version that is no number."""
    return float(version) if version is not None and version.isdigit() else 0.0


def _value(figure: object) -> float | None:
    value = figure.get("value") if isinstance(figure, Mapping) else figure
    return value if isinstance(value, int | float) else None


def _interval_samples(metric: str, usecase: str, figure: Mapping[str, Any] | None, *labels: str) -> Iterator[Sample]:
    bounds = figure or to_plain(Measurement(None))
    return samples(metric, usecase, [((*labels, bound), bounds.get(bound)) for bound in ("value", "low", "high")])


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
    past_counts = {d: n for d, n in counts.items() if d < day}
    week = [past_counts.get(day - timedelta(days=back)) for back in range(1, WEEK + 1)]
    known_counts = [n for n in week if n is not None]
    if len(known_counts) < WEEK:
        return None
    same_weekday_counts = [n for d, n in past_counts.items() if d.weekday() == day.weekday()]
    # Whole weeks alone tell the level: a half week would count some weekdays more often than others.
    weeks = len(past_counts) // WEEK
    whole_weeks = [past_counts.get(day - timedelta(days=back), 0) for back in range(1, weeks * WEEK + 1)]
    level = sum(whole_weeks) / len(whole_weeks)
    scale = sum(known_counts) / WEEK / level if level else 0.0
    return sum(same_weekday_counts) / len(same_weekday_counts) * scale
