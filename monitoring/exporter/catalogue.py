"""Every metric of the exporter: its name, what it says, its labels. One table, so that docs and tests read it too.

Names follow Prometheus: base units, ``_ratio`` for shares, ``_timestamp_seconds`` for moments on the
machine's clock. Each metric also carries the label ``usecase``. A metric without data has no sample.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["gauge", "counter"]
NAMESPACE: Final = "incumbent_"
ADDED: Final = "usecase.added"
RETIRED: Final = "usecase.retired"
"""Kinds of decisions: what the exporter tells of a use case ends and begins with them."""


@dataclass(frozen=True)
class Metric:
    """One metric; ``name`` lacks the prefix and, for a counter, ``_total``."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    kind: Kind = "gauge"

    @property
    def full_name(self) -> str:
        """The name without the suffix that the format adds."""
        return NAMESPACE + self.name


@dataclass(frozen=True)
class Sample:
    """One value of one metric; ``labels`` stand in the order of the catalogue."""

    name: str
    usecase: str
    labels: tuple[str, ...]
    value: float


_MODEL, _FEATURE = ("model",), ("model", "feature")

CATALOGUE: Final[tuple[Metric, ...]] = (
    # Drift: of the newest check that had enough rows; nothing where the newest had too few.
    Metric("drift_psi", "Population stability index of a feature in the newest window", _FEATURE),
    Metric("drift_excess_psi", "Population stability index above what chance gives", _FEATURE),
    Metric("drift_ks", "Kolmogorov-Smirnov distance of a feature in the newest window", _FEATURE),
    Metric("drift_score_psi", "Population stability index of the score", _MODEL),
    Metric("drift_score_excess_psi", "Population stability index of the score above what chance gives", _MODEL),
    Metric("drift_features_ratio", "Share of the features whose drift is beyond the warning band", _MODEL),
    Metric("drift_severity", "What the windows say together: 0 none, 1 warning, 2 severe", _MODEL),
    Metric("drift_rows", "Rows in the newest window", _MODEL),
    Metric("drift_severe_checks_in_a_row", "Newest drift checks that all said severe", ()),
    Metric("drift_checked_timestamp_seconds", "Last drift check, whatever it found", ()),
    Metric("feature_missing_ratio", "Share of a feature's values that are missing in the newest window", _FEATURE),
    Metric("feature_unseen_ratio", "Share of a feature's values in categories unknown to the model", _FEATURE),
    Metric("feature_skew_ratio", "Share of served values that a recomputation does not give", _FEATURE),
    Metric("skew_rows_ratio", "Share of served rows with any value that a recomputation does not give", _MODEL),
    # Performance on matured labels, of the newest check; bound is value, low or high.
    Metric("matured_recall_ratio", "Recall of the latest matured days, with its interval", ("model", "bound")),
    Metric("matured_precision_ratio", "Precision of the latest matured days, with its interval", ("model", "bound")),
    Metric("matured_average_precision_ratio", "Average precision of the latest matured days", ("model", "bound")),
    Metric("matured_calibration_ratio", "Positives over the sum of scores in the matured days", ("model", "bound")),
    Metric("matured_alert_ratio", "Share of alerts in the latest matured days", ("model", "bound")),
    Metric("matured_prevalence_ratio", "Share of positives in the latest matured days", ("model", "bound")),
    Metric("matured_rows", "Matured rows behind the figures", _MODEL),
    Metric("matured_positives", "Matured positives behind the figures", _MODEL),
    Metric("trained_recall_ratio", "Recall in the test window of the training", ("model", "bound")),
    Metric("matured_recall_loss_ratio", "Recall at the training minus matured recall", ("model", "bound")),
    Metric("estimated_recall_ratio", "ESTIMATE of recall from scores alone, for days without labels", _MODEL),
    Metric("estimated_precision_ratio", "ESTIMATE of precision from scores alone, for days without labels", _MODEL),
    Metric("daily_cost", "Mean cost of a day: final days are matured, provisional ones not", ("state", "currency")),
    Metric("daily_alerts", "Alerts of the newest whole day", ()),
    Metric("forecast_alerts", "Forecast of the alerts of the day after the newest whole one", ()),
    Metric("capacity_alerts", "Alerts a day that the analysts can work on", ()),
    # Labels.
    Metric("label_stored_timestamp_seconds", "Last time a label was stored", ()),
    Metric("label_delay_seconds", "From event to label, of the newest labels: median and p90", ("source", "part")),
    Metric("label_lag_seconds", "From the newest labelled event to the newest answered one, in event time", ()),
    Metric("label_maturity_seconds", "Age at which the label of an event counts as final", ()),
    # Comparison of the two models, of the newest report.
    Metric("comparison_e_value_log10", "Evidence against 'no gain', as a power of ten", ("challenger", "test")),
    Metric(
        "comparison_gain", "Daily gain of the challenger with its confidence sequence", ("challenger", "test", "bound")
    ),
    Metric("comparison_remaining_seconds", "Matured time still needed for a verdict, as expected now", ("challenger",)),
    Metric("comparison_matured_seconds", "Matured time that was compared", ("challenger",)),
    Metric("comparison_recall_ratio", "Recall on the compared events", ("challenger", "role", "bound")),
    Metric("comparison_daily_cost", "Mean cost of a compared day", ("challenger", "role", "currency")),
    Metric("comparison_outcome", "1 for the newest verdict", ("challenger", "outcome")),
    Metric("comparison_checked_timestamp_seconds", "Last comparison", ("challenger",)),
    Metric("challenger_scored_rows", "Events that the challenger scored in shadow", ("challenger",)),
    Metric("challenger_failed_rows", "Events at which the challenger failed in shadow", ("challenger",)),
    # Releases.
    Metric("release_open_seconds", "Age of an operation of release that is not finished", ("model", "kind", "state")),
    Metric("releases", "Operations of release that were finished", ("model", "kind", "state"), "counter"),
    Metric("role_version", "Version that the journal gives a role; 0 is vacant", ("model", "role")),
    Metric(
        "champion_since_timestamp_seconds", "When the champion became champion, by the journal", ("model", "version")
    ),
    # Flows.
    Metric("flow_success_timestamp_seconds", "End of the last completed run", ("flow",)),
    Metric("flow_failure_timestamp_seconds", "End of the last failed run", ("flow",)),
    Metric("flow_failing", "1 while the last finished run of a flow failed", ("flow",)),
    Metric("flow_running_seconds", "Age of a run that has not ended", ("flow",)),
    Metric("flow_duration_seconds", "Length of the last finished run", ("flow",)),
    # What people must hear of.
    Metric(
        "automatic_timestamp_seconds", "Last rollback, emergency's end or ramp's return that nobody asked for", ("act",)
    ),
    Metric("approval_waiting_seconds", "Age of the promotion that waits for a person longest", ()),
    Metric("flow_killed", "1 while the last finished run of a flow was killed", ("flow",)),
    Metric("condition_seconds", "Age of something that the notifier found wrong and told", ("watch", "subject")),
    Metric("heartbeat_age_seconds", "Age of the last sign of life of a part that serves no metrics", ("part",)),
    Metric("notices_undelivered", "Notices that a target has not taken", ("target",)),
    Metric("notice_undelivered_seconds", "Age of the oldest notice that a target has not taken", ("target",)),
    Metric("dependency_up", "1 while a service that the settings name answers", ("dependency",)),
    # Log.
    Metric("log_ledger_records", "Records that left the spool, by what became of them", ("fate",), "counter"),
    Metric("log_torn_segments", "Half-written ends of spool files that were skipped", (), "counter"),
    Metric("log_writers", "Spool writers that are not finished", ()),
    Metric("log_last_received_timestamp_seconds", "When the newest stored event was answered", ()),
    Metric("log_oldest_event_timestamp_seconds", "Event time of the oldest event in the log", ()),
    Metric("log_newest_event_timestamp_seconds", "Event time of the newest answered event", ()),
    Metric("scribe_lag_seconds", "From answer to database, of the newest stored event", ()),
    Metric("scribe_moved_timestamp_seconds", "Last time the scribe moved its ledger", ()),
    Metric("usecase_retired", "1 for a use case that runs here no more; nothing else is told of it", ()),
    Metric("exporter_part_readable", "1 where a part of the database could be understood", ("part",)),
    # Replicas.
    Metric("replicas", "Replicas that were heard of in the last minute", ()),
    Metric(
        "replica_served_version", "Version that a replica answers with; 0 is none or external", ("model", "replica")
    ),
    Metric("replica_alias_version", "Version that a replica saw behind @champion", ("model", "replica")),
    Metric(
        "replica_mismatch", "1 while a replica does not answer with the champion of the journal", ("model", "replica")
    ),
    Metric("routing_mismatch", "1 while the arms of the routing policy do not have the units of their shares", _MODEL),
    Metric("replica_heartbeat_timestamp_seconds", "Last sign of life of a replica", ("model", "replica")),
)

BY_NAME: Final = {metric.name: metric for metric in CATALOGUE}


def samples(name: str, usecase: str, rows: Iterable[tuple[tuple[str, ...], float | int | None]]) -> Iterator[Sample]:
    """Samples of one metric; an unknown value gives none."""
    label_count = len(BY_NAME[name].labels)
    for labels, value in rows:
        assert len(labels) == label_count, name
        if value is not None:
            yield Sample(name, usecase, labels, float(value))


def sample(name: str, usecase: str, value: float | int | None, *labels: str) -> Iterator[Sample]:
    """One sample, or none where the value is unknown."""
    return samples(name, usecase, [(labels, value)])
