"""Whether a new model is due: what is known of the champion, put to the retraining policy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from bentos.schema.row_times import LAST
from bentos.usecase.definition import UseCase
from flows.steps.data.split import DAY, retraining_case, split_at
from flows.workspace.step import step
from monitoring.core.calendar import TimeWindow
from monitoring.core.measured import Measurement
from monitoring.drift.retraining import DriftDay, RetrainDecision, RetrainInputs, should_retrain, standing_alarm
from monitoring.policies import DriftPolicy
from monitoring.stats.intervals import newcombe

if TYPE_CHECKING:
    from bentos.model.scoring_model import ScoringModel
    from monitoring.store import Report, Store


@dataclass(frozen=True)
class RetrainingCheck:
    """The policy's answer about one champion.

    Attributes:
        model: label of the champion, or none.
        decision: reasons, obstacles, notes.
        change_since: business time since which drift has been raised without a break, or none.
    """

    model: str | None
    decision: RetrainDecision
    change_since: datetime | None = None

    @property
    def due(self) -> bool:
        """Whether to train now."""
        return self.decision.retrain

    @property
    def outcome(self) -> str:
        """``retrain``, ``blocked`` (reasons, but something stands in the way) or ``no``."""
        return "retrain" if self.due else "blocked" if self.decision.reasons else "no"

    def outcome_if(self, force: bool) -> str:
        """The same, or ``forced`` where people train although the policy says no."""
        return "forced" if force and not self.due else self.outcome

    @property
    def reason(self) -> str:
        """The answer in one line."""
        reasons = self.decision.reasons if self.due else self.decision.blocked_by or self.decision.reasons
        return "; ".join(reasons) or "nothing calls for it"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        since = None if self.change_since is None else self.change_since.isoformat()
        return {"model": self.model, "outcome": self.outcome, "change_since": since} | self.decision.to_json()


@step(name="ask the policy", run_name="ask whether {name} is due for retraining", tags=("database",), retried=True)
def check_retraining(
    store: Store,
    usecase: UseCase,
    name: str,
    as_of: datetime,
    label: str | None,
    model: ScoringModel | None,
    *,
    busy: bool = False,
) -> RetrainingCheck:
    """Ask the policy at ``as_of``.

    Args:
        store: reports, journal and log.
        usecase: policy and maturity.
        name: model in the registry, for example ``dev-fraud``.
        as_of: business time; later reports and decisions are not looked at.
        label: of the champion, or none.
        model: the champion, or none.
        busy: whether a training runs now, see :func:`training_runs`.
    """
    reports = store.reports.list(usecase.name, "drift", until=as_of)
    trained_until = None if model is None else _trained_until(store, usecase, model, as_of)
    # An alarm against the reference of an earlier champion says nothing about this one.
    alarm = standing_alarm([_day(report) for report in reports if report.model == label], _clear(usecase.drift))
    inputs = RetrainInputs(
        trained_until=trained_until,
        new_rows=0 if trained_until is None else _new_rows(store, usecase, trained_until, as_of),
        drift_severe=alarm is not None and alarm.severe,
        score_moved=alarm is not None and alarm.score_moved,
        drifted=() if alarm is None else alarm.features,
        recall_loss=_recall_loss(store, usecase, label, reports, as_of),
        # What people force counts for the cooldown and the monthly limit as well.
        retrainings=tuple(
            report.as_of
            for report in store.reports.list(usecase.name, "retraining", until=as_of)
            if report.outcome in ("retrain", "forced")
        ),
        in_flight=busy or any(store.decisions.role_at(name, role, as_of) for role in ("challenger", "candidate")),
    )
    decision = should_retrain(inputs, usecase.retrain, as_of, usecase.label.matures_after)
    since = _raised_since(reports, usecase.drift)
    return RetrainingCheck(label, _wait_for_the_change(decision, usecase, since, as_of, model is None), since)


def _trained_until(store: Store, usecase: UseCase, model: ScoringModel, as_of: datetime) -> datetime:
    """End of the training data. A table without a time does not say when it was made: its age counts from the first
    live event on, and there is none while nothing came live."""
    end = datetime.fromisoformat(model.metadata.training_end)
    if not usecase.untimed or end > LAST:
        return end
    span = store.log.span(usecase.name)
    return as_of if span is None else min(as_of, max(end, span[1]))


def training_runs(store: Store, usecase: str, now: datetime) -> bool:
    """Whether a training is under way at machine time ``now``; one whose process is gone blocks nobody."""
    from flows.steps.operations.dead_runs import close_dead_runs

    close_dead_runs(store, usecase, now)
    return any(run.flow in _TRAININGS for run in store.runs.running(usecase))


_TRAININGS = ("training", "tuning")


def is_news(store: Store, usecase: str, retraining: RetrainingCheck, as_of: datetime) -> bool:
    """Whether people have not been told yet what holds a retraining back: once is enough, not every day."""
    last_report = store.reports.latest(usecase, "retraining", as_of=as_of)
    return retraining.outcome == "blocked" and (last_report is None or last_report.outcome != "blocked")


def _wait_for_the_change(
    decision: RetrainDecision, usecase: UseCase, since: datetime | None, as_of: datetime, vacant: bool
) -> RetrainDecision:
    """Hold a retraining back while its training fold would hardly hold what has changed.

    Nobody waits while the role is ``vacant``: any model is better than none.

    The gates look at the newest matured days. A model fitted on days before the change would be judged
    on days after it, and be refused.
    """
    if not decision.retrain or since is None or vacant:
        return decision
    required_span = usecase.retrain.wait_after_change
    covered_span = split_at(retraining_case(usecase), as_of).train.end - since
    if covered_span >= required_span:
        return decision
    days = f"{max(0.0, covered_span / DAY):.0f} of {required_span / DAY:.0f}"
    hold_reason = f"the training fold would hold {days} days since the change of {since:%Y-%m-%d}"
    return replace(decision, retrain=False, blocked_by=(*decision.blocked_by, hold_reason))


def _raised_since(reports: list[Report], policy: DriftPolicy) -> datetime | None:
    """When the latest run of alarms began, against whichever model; it lasts until the shift clears.

    An alarm needs several windows that agree, so the change is at least that much older than the
    first of them.
    """
    alarm = standing_alarm([_day(r) for r in reports], _clear(policy))
    return None if alarm is None else alarm.since - policy.windows_needed * policy.window


def _clear(policy: DriftPolicy) -> float:
    """A file that lowers the trigger alone must not have it below the clear level."""
    return min(policy.psi_clear, policy.psi_warning)


def _day(report: Report) -> DriftDay:
    """The stored drift check in the form of the trigger."""
    alarm, windows = report.payload["alarm"], report.payload.get("reports", [])
    newest = windows[-1] if windows else {}
    shifts = [f for f in newest.get("features", ()) if f["raises"]] + [f for f in (newest.get("score"),) if f]
    size = max((f["excess"] or 0.0 for f in shifts), default=0.0)
    return DriftDay(report.as_of, alarm["band"], bool(alarm["score_moved"]), tuple(alarm["features"]), size)


def _new_rows(store: Store, usecase: UseCase, trained_until: datetime, as_of: datetime) -> int:
    end = usecase.calendar.matured_until(as_of, usecase.label.matures_after)
    return 0 if end <= trained_until else store.log.count(usecase.name, TimeWindow(trained_until, end))


def _recall_loss(
    store: Store, usecase: UseCase, label: str | None, reports: list[Report], as_of: datetime
) -> Measurement | None:
    """Recall of the reference period minus recall of the latest matured week."""
    training_report = store.reports.latest(usecase.name, "training", challenger=label, as_of=as_of) if label else None
    performance = reports[-1].payload.get("performance") if reports else None
    if training_report is None or not performance:
        return None
    evidence = training_report.payload["evidence"]
    before, after = evidence["metrics"]["recall"]["value"], performance["metrics"]["recall"]["value"]
    if before is None or after is None:
        return None
    n1, n2 = int(evidence["positives"]), int(performance["positives"])
    return newcombe(round(before * n1), n1, round(after * n2), n2)
