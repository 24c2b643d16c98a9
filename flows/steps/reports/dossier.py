"""Gathers what a dossier shows beside the comparison, and writes it: on disk and beside the challenger's run."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from shutil import copyfile
from typing import TYPE_CHECKING, Any

from bentos.errors import IncumbentError
from bentos.promotion.approval import approved_by, rejected_by
from bentos.registry.ports import ModelRef
from bentos.usecase.definition import UseCase
from flows.steps.comparison.replay_verdict import KIND
from flows.steps.data.split import business_time_before
from flows.steps.reports.role_start import describe_role_start
from flows.steps.tracking.code_version import CodeVersion, current_code_version
from flows.steps.tracking.lineage import Ancestry, ancestry
from flows.steps.tracking.mlflow_run import tracker_of
from flows.workspace.step import step
from monitoring.comparison.group_effects import GroupEffects, compare_groups
from monitoring.comparison.paired import PairedResult
from monitoring.core.calendar import TimeWindow
from monitoring.core.measured import Measurement
from monitoring.core.verdict import Verdict
from monitoring.performance.capacity import CapacityCurve
from monitoring.policies.label_rules import LabelRules
from monitoring.reports.dossier import Dossier, ModelFacts, write_dossier

if TYPE_CHECKING:
    from flows.steps.comparison.compare import ComparisonResult
    from flows.workspace.workspace import Workspace
    from monitoring.store import Report, Store

log = logging.getLogger("incumbent.flows")

_SHOWN = ("max_depth", "learning_rate", "tree_method", "max_bin", "trees", "n_estimators", "seed")


@dataclass(frozen=True)
class ComparisonCase:
    """A comparison as its page needs it, fresh or from a stored report."""

    result: PairedResult
    verdict: Verdict
    warnings: tuple[str, ...]
    capacity: CapacityCurve | None

    @classmethod
    def of(cls, comparison: ComparisonResult) -> ComparisonCase:
        """A comparison that was made just now."""
        return cls(comparison.result, comparison.verdict, comparison.warnings, comparison.capacity)

    @classmethod
    def stored(cls, report: Report) -> ComparisonCase:
        """The comparison behind a stored report, as it was found then."""
        payload = report.payload
        curve = payload.get("capacity")
        return cls(
            PairedResult.from_json(payload["result"]),
            Verdict.from_json(payload["verdict"]),
            tuple(payload.get("warnings", ())),
            None if curve is None else CapacityCurve.from_json(curve),
        )


@step(name="write the page", run_name="write the dossier of {comparison.verdict.challenger}", tags=("files",))
def write_comparison_page(workspace: Workspace, comparison: ComparisonResult) -> Path:
    """Write the dossier of a comparison into the reports folder and beside the challenger's run; return its path."""
    return write_case(workspace, ComparisonCase.of(comparison))


@step(name="write the page", run_name="write the dossier of {verdict.challenger} again", tags=("files",))
def write_promotion_page(workspace: Workspace, verdict: Verdict, as_of: datetime) -> Path | None:
    """Write the dossier of the comparison that led to a promotion again, with who approved it and what was decided.

    None where the verdict is not the one of the newest stored comparison.
    """
    report = workspace.store.reports.latest(workspace.usecase.name, "comparison", as_of=as_of)
    if report is None:
        return None
    try:
        case = ComparisonCase.stored(report)
        return write_case(workspace, case) if case.verdict.digest == verdict.digest else None
    except (OSError, LookupError, TypeError, ValueError) as exc:
        # The promotion is done: whatever is wrong with its page must not make it look as if it had failed.
        log.warning("the dossier was not written: %r", exc)
        return None


def write_case(workspace: Workspace, case: ComparisonCase) -> Path:
    """Write the page into the reports folder and beside the challenger's MLflow run; returns where it is."""
    result = case.result
    name = f"{result.champion}-{result.challenger}-{result.as_of:%Y%m%dT%H%M}.html".replace("/", "-")
    path = workspace.settings.reports / "comparison" / name
    write_dossier(path, result, case.verdict, gather_dossier(workspace, case), case.warnings)
    keep_with_run(workspace, result.challenger, path)
    return path


def gather_dossier(workspace: Workspace, case: ComparisonCase) -> Dossier:
    """Everything that is on record about both models. What cannot be found out becomes a note."""
    result, verdict = case.result, case.verdict
    notes: list[str] = []
    champion = _facts(workspace, result.champion, "champion", result.as_of, notes)
    challenger = _facts(workspace, result.challenger, "challenger", result.as_of, notes)
    training = _training(workspace, result.challenger)
    gates = Verdict.from_json(training.payload["verdict"]) if training is not None else None
    drift = workspace.store.reports.latest(workspace.usecase.name, "drift", as_of=result.as_of)
    return Dossier(
        champion,
        challenger,
        gates=() if gates is None else gates.checks,
        gates_as_of=None if gates is None else gates.as_of,
        drift=() if drift is None else _drift_lines(drift),
        fairness=() if drift is None else _fairness_lines(drift.payload.get("fairness")),
        groups=compare_both_groups(
            workspace.store, workspace.usecase, result.champion, result.challenger, result.as_of
        ),
        capacity=case.capacity,
        latency=_latency(workspace, training),
        approval=_approval(workspace, verdict),
        decision=_decision(workspace, verdict),
        made_with=_made_with(workspace, verdict),
        notes=tuple(dict.fromkeys(notes)),
    )


def _facts(workspace: Workspace, label: str, role: str, as_of: datetime, notes: list[str]) -> ModelFacts:
    ref = ModelRef.parse(label)
    if ref.name != workspace.model:
        return ModelFacts(label, version="external: a column of the event")
    start = describe_role_start(workspace, role, ref.version, as_of)
    since = f"@{role} {start}" if start else ""
    try:
        tracker = tracker_of(workspace.registry)
        lineage = ancestry(
            ref, workspace.registry, tracker, (workspace.snapshots, workspace.evidence), workspace.store.decisions
        )
        model = workspace.load(ref)
    except (IncumbentError, TypeError) as exc:
        notes.append(f"{label}: {exc}")
        return ModelFacts(label, since=since)
    threshold = model.threshold
    threshold_interval = Measurement(threshold.value, threshold.low, threshold.high)
    return ModelFacts(
        label, lineage.semantic_version or "", _lineage(lineage), threshold_interval, tuple(model.plan.names), since,
        model.cost_curve, threshold.amount is not None,
    )  # fmt: skip


def _lineage(lineage: Ancestry) -> Mapping[str, str]:
    tags, code, parameters = lineage.tags, lineage.code or {}, lineage.parameters or {}
    snapshot_note = "" if lineage.data.get("here") else " (snapshot gone)"
    return {
        "training window": f"{tags.get('training_start', '–')[:10]} to {tags.get('training_end', '–')[:10]}",
        "rows, positives": f"{tags.get('rows', '–')}, {tags.get('positives', '–')}",
        "data": f"{tags.get('data_digest', '–')[:16]}{snapshot_note}",
        "code": code.get("git_commit", "–")[:16],
        "environment": code.get("environment_digest", "–")[:16],
        "parent": lineage.ancestors[0] if lineage.ancestors else "–",
        "parameters": ", ".join(f"{name} {parameters[name]}" for name in _SHOWN if name in parameters) or "–",
        "contract": tags.get("contract_digest", "–")[:16],
        "MLflow run": lineage.run_id or "–",
    }


def _training(workspace: Workspace, label: str) -> Report | None:
    """The newest training or evaluation report that judged this version."""
    reports = workspace.store.reports
    return reports.latest(workspace.usecase.name, "training", challenger=label)


def _drift_lines(report: Report) -> tuple[tuple[str, str], ...]:
    payload = report.payload
    alarm = payload.get("alarm", {}) or {}
    feature_names = ", ".join(alarm.get("features", ())) or "none"
    return (
        ("outcome", report.outcome.replace("_", " ")),
        ("as of", f"{report.as_of:%Y-%m-%d %H:%M}"),
        ("against", report.model or "–"),
        ("features in alarm", feature_names),
    )


def _fairness_lines(fairness: Any) -> tuple[tuple[str, str, str, str], ...]:
    return tuple(
        (
            f"{comparison['measure']} of {comparison['column']}",
            f"{comparison['group']} against {comparison['reference']}",
            _interval(comparison["difference"]),
            comparison["status"],
        )
        for comparison in (fairness or {}).get("comparisons", ())
    )


def _interval(figure: Mapping[str, Any]) -> str:
    value, low, high = (figure.get(name) for name in ("value", "low", "high"))
    if value is None:
        return "–"
    return f"{value:.3g}" if low is None or high is None else f"{value:.3g} ({low:.3g} to {high:.3g})"


def _latency(workspace: Workspace, training: Report | None) -> dict[str, float | None]:
    """The gates' figure of the challenger, and what the replicas say of their answers now."""
    figures: dict[str, float | None] = {}
    if training is not None:
        figures["challenger, one event in training"] = training.payload["evidence"].get("latency_p99_ms")
    for replica in workspace.store.serving.live(workspace.usecase.name):
        detail = json.loads(replica.detail)
        answers = detail.get("answers", {})
        if answers.get("requests"):
            figures[f"{replica.replica}, version {replica.version}, answers now"] = answers["p99_ms"]
        if detail.get("challenger_p99_ms") is not None:
            figures[f"{replica.replica}, challenger's part of a batch"] = detail["challenger_p99_ms"]
    return figures


def _approval(workspace: Workspace, verdict: Verdict) -> str:
    store, name = workspace.store, workspace.usecase.name
    if not verdict.promotes:
        return "Nothing is to be approved: the verdict promotes nobody."
    if (by := rejected_by(store, name, verdict)) is not None:
        return f"{by} rejected this verdict."
    if (by := approved_by(store, name, verdict)) is not None:
        return f"{by} approved this verdict."
    if workspace.usecase.promotion.approval == "required":
        return "A person with a key of scope approve must agree: incumbent approve."
    return "The use case asks for no approval: the verdict alone promotes."


def _decision(workspace: Workspace, verdict: Verdict) -> str:
    """The promotion that this verdict led to, if it did."""
    for decision in reversed(workspace.store.decisions.list(workspace.usecase.name, ("promotion.champion_set",))):
        if decision.payload.get("evidence") == verdict.digest:
            return (
                f"Promoted {decision.at:%Y-%m-%d %H:%M} by {decision.actor}: decision #{decision.seq} ({decision.id})."
            )
    return ""


def _made_with(workspace: Workspace, verdict: Verdict) -> dict[str, str]:
    """What the chain says computed this verdict; one that is in no decision was computed here and now."""
    for decision in reversed(workspace.store.decisions.list(workspace.usecase.name, (KIND,), limit=None)):
        if decision.payload["digest"] == verdict.digest:
            code = CodeVersion.from_json(decision.payload.get("made_with"))
            return {} if code is None else code.lines()
    return current_code_version().lines()


def keep_with_run(workspace: Workspace, label: str, page: Path) -> None:
    """Store the page with the run that trained the challenger; a registry that is away loses the copy only."""
    ref = ModelRef.parse(label)
    try:
        run_id = workspace.registry.describe(ref).run_id
        if run_id is None:
            return
        with tempfile.TemporaryDirectory(prefix="incumbent-dossier-") as scratch:
            copyfile(page, Path(scratch) / f"dossier-{page.name}")
            tracker_of(workspace.registry).keep(run_id, Path(scratch))
    except (IncumbentError, TypeError) as exc:
        log.warning("the dossier of %s is not beside its run: %s", label, exc)


GROUPS_PERIOD = timedelta(days=28)


def compare_both_groups(
    store: Store, usecase: UseCase, champion: str, challenger: str, as_of: datetime
) -> GroupEffects | None:
    """Both models by group; none where nothing is declared or no matured event was scored by both.

    Where flagged events are blocked only rates of flags are compared, as in the drift check.
    """
    columns = dict.fromkeys((*usecase.fairness.sensitive, *usecase.fairness.slices))
    if not columns:
        return None
    end = usecase.calendar.matured_until(as_of, usecase.label.matures_after)
    blocks = usecase.intervention.blocks_flagged
    rows = store.log.paired(
        usecase.name,
        (champion, challenger),
        TimeWindow(business_time_before(usecase.calendar, end, GROUPS_PERIOD), end),
        as_of,
        LabelRules(usecase.label, usecase.calendar, blocks),
        {name: usecase.column(name).type for name in columns},
    )
    return compare_groups(rows, usecase.fairness, champion, challenger, labelled=not blocks)
