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
from flows.steps.data.split import back
from flows.steps.tracking.code_version import MadeWith, made_with
from flows.steps.tracking.lineage import Ancestry, ancestry
from flows.steps.tracking.mlflow_run import tracker_of
from flows.workspace.step import step
from monitoring.comparison.group_effects import BothGroups, both_groups
from monitoring.comparison.paired import PairedResult
from monitoring.core.calendar import TimeWindow
from monitoring.core.measured import Measured
from monitoring.core.verdict import Verdict
from monitoring.performance.capacity import CapacityCurve
from monitoring.reports.dossier import Dossier, ModelFacts, write_dossier

if TYPE_CHECKING:
    from flows.steps.comparison.compare import Comparison
    from flows.workspace.workspace import House
    from monitoring.store import Report, Store

log = logging.getLogger("incumbent.flows")

_SHOWN = ("max_depth", "learning_rate", "tree_method", "max_bin", "trees", "n_estimators", "seed")


@dataclass(frozen=True)
class Case:
    """A comparison as its page needs it, fresh or from a stored report."""

    result: PairedResult
    verdict: Verdict
    warnings: tuple[str, ...]
    capacity: CapacityCurve | None

    @classmethod
    def of(cls, found: Comparison) -> Case:
        """A comparison that was made just now."""
        return cls(found.result, found.verdict, found.warnings, found.capacity)

    @classmethod
    def stored(cls, report: Report) -> Case:
        """The comparison behind a stored report, as it was found then."""
        said = report.payload
        curve = said.get("capacity")
        return cls(
            PairedResult.from_json(said["result"]),
            Verdict.from_json(said["verdict"]),
            tuple(said.get("warnings", ())),
            None if curve is None else CapacityCurve.from_json(curve),
        )


@step(name="write the page", run_name="write the dossier of {found.verdict.challenger}", tags=("files",))
def comparison_page(house: House, found: Comparison) -> Path:
    """Write the dossier of a comparison into the reports folder and beside the challenger's run; return its path."""
    return write(house, Case.of(found))


@step(name="write the page", run_name="write the dossier of {verdict.challenger} again", tags=("files",))
def promoted_page(house: House, verdict: Verdict, as_of: datetime) -> Path | None:
    """Write the dossier of the comparison that led to a promotion again, with who approved it and what was decided.

    None where the verdict is not the one of the newest stored comparison.
    """
    report = house.store.reports.latest(house.usecase.name, "comparison", as_of=as_of)
    if report is None:
        return None
    try:
        case = Case.stored(report)
        return write(house, case) if case.verdict.digest == verdict.digest else None
    except (OSError, LookupError, TypeError, ValueError) as exc:
        # The promotion is done: whatever is wrong with its page must not make it look as if it had failed.
        log.warning("the dossier was not written: %r", exc)
        return None


def write(house: House, case: Case) -> Path:
    """Write the page into the reports folder and beside the challenger's MLflow run; returns where it is."""
    result = case.result
    name = f"{result.champion}-{result.challenger}-{result.as_of:%Y%m%dT%H%M}.html".replace("/", "-")
    path = house.settings.reports / "comparison" / name
    write_dossier(path, result, case.verdict, gather(house, case), case.warnings)
    keep_with_run(house, result.challenger, path)
    return path


def gather(house: House, case: Case) -> Dossier:
    """Everything that is on record about both models. What cannot be found out becomes a note."""
    result, verdict = case.result, case.verdict
    notes: list[str] = []
    champion = _facts(house, result.champion, "champion", result.as_of, notes)
    challenger = _facts(house, result.challenger, "challenger", result.as_of, notes)
    training = _training(house, result.challenger)
    gates = Verdict.from_json(training.payload["verdict"]) if training is not None else None
    drift = house.store.reports.latest(house.usecase.name, "drift", as_of=result.as_of)
    return Dossier(
        champion,
        challenger,
        gates=() if gates is None else gates.checks,
        gates_as_of=None if gates is None else gates.as_of,
        drift=() if drift is None else _drift_lines(drift),
        fairness=() if drift is None else _fairness_lines(drift.payload.get("fairness")),
        groups=groups_of_both(house.store, house.usecase, result.champion, result.challenger, result.as_of),
        capacity=case.capacity,
        latency=_latency(house, training),
        approval=_approval(house, verdict),
        decision=_decision(house, verdict),
        made_with=_made_with(house, verdict),
        notes=tuple(dict.fromkeys(notes)),
    )


def _facts(house: House, label: str, role: str, as_of: datetime, notes: list[str]) -> ModelFacts:
    ref = ModelRef.parse(label)
    if ref.name != house.model:
        return ModelFacts(label, version="external: a column of the event")
    since = _since(house, ref, role, as_of)
    try:
        tracker = tracker_of(house.registry)
        found = ancestry(ref, house.registry, tracker, (house.snapshots, house.evidence), house.store.decisions)
        model = house.load(ref)
    except (IncumbentError, TypeError) as exc:
        notes.append(f"{label}: {exc}")
        return ModelFacts(label, since=since)
    cut = model.threshold
    threshold = Measured(cut.value, cut.low, cut.high)
    return ModelFacts(
        label, found.semantic_version or "", _lineage(found), threshold, tuple(model.plan.names), since,
        model.cost_curve, cut.amount is not None,
    )  # fmt: skip


def _lineage(found: Ancestry) -> Mapping[str, str]:
    tags, code, parameters = found.tags, found.code or {}, found.parameters or {}
    here = "" if found.data.get("here") else " (snapshot gone)"
    return {
        "training window": f"{tags.get('training_start', '–')[:10]} to {tags.get('training_end', '–')[:10]}",
        "rows, positives": f"{tags.get('rows', '–')}, {tags.get('positives', '–')}",
        "data": f"{tags.get('data_digest', '–')[:16]}{here}",
        "code": code.get("git_commit", "–")[:16],
        "environment": code.get("environment_digest", "–")[:16],
        "parent": found.ancestors[0] if found.ancestors else "–",
        "parameters": ", ".join(f"{name} {parameters[name]}" for name in _SHOWN if name in parameters) or "–",
        "contract": tags.get("contract_digest", "–")[:16],
        "MLflow run": found.run_id or "–",
    }


def _since(house: House, ref: ModelRef, role: str, as_of: datetime) -> str:
    """By which decision a version holds its role."""
    terms = house.store.decisions.terms(house.model, role)
    held = [(at, seq) for version, at, seq in terms if version == ref.version and at <= as_of]
    if not held:
        return ""
    at, seq = held[-1]
    line = next((d for d in house.store.decisions.list(house.usecase.name, after=seq - 1) if d.seq == seq), None)
    by = "" if line is None else f" by {line.kind} #{seq} ({line.actor})"
    return f"@{role} since {at:%Y-%m-%d %H:%M}{by}"


def _training(house: House, label: str) -> Report | None:
    """The newest training or evaluation report that judged this version."""
    reports = house.store.reports
    return reports.latest(house.usecase.name, "training", challenger=label)


def _drift_lines(report: Report) -> tuple[tuple[str, str], ...]:
    said = report.payload
    features = said.get("alarm", {}) or {}
    named = ", ".join(features.get("features", ())) or "none"
    return (
        ("outcome", report.outcome.replace("_", " ")),
        ("as of", f"{report.as_of:%Y-%m-%d %H:%M}"),
        ("against", report.model or "–"),
        ("features in alarm", named),
    )


def _fairness_lines(said: Any) -> tuple[tuple[str, str, str, str], ...]:
    return tuple(
        (
            f"{one['measure']} of {one['column']}",
            f"{one['group']} against {one['reference']}",
            _interval(one["difference"]),
            one["status"],
        )
        for one in (said or {}).get("comparisons", ())
    )


def _interval(figure: Mapping[str, Any]) -> str:
    value, low, high = (figure.get(name) for name in ("value", "low", "high"))
    if value is None:
        return "–"
    return f"{value:.3g}" if low is None or high is None else f"{value:.3g} ({low:.3g} to {high:.3g})"


def _latency(house: House, training: Report | None) -> dict[str, float | None]:
    """The gates' figure of the challenger, and what the replicas say of their answers now."""
    found: dict[str, float | None] = {}
    if training is not None:
        found["challenger, one event in training"] = training.payload["evidence"].get("latency_p99_ms")
    for replica in house.store.serving.live(house.usecase.name):
        said = json.loads(replica.detail)
        answers = said.get("answers", {})
        if answers.get("requests"):
            found[f"{replica.replica}, version {replica.version}, answers now"] = answers["p99_ms"]
        if said.get("challenger_p99_ms") is not None:
            found[f"{replica.replica}, challenger's part of a batch"] = said["challenger_p99_ms"]
    return found


def _approval(house: House, verdict: Verdict) -> str:
    store, name = house.store, house.usecase.name
    if not verdict.promotes:
        return "Nothing is to be approved: the verdict promotes nobody."
    if (by := rejected_by(store, name, verdict)) is not None:
        return f"{by} rejected this verdict."
    if (by := approved_by(store, name, verdict)) is not None:
        return f"{by} approved this verdict."
    if house.usecase.promotion.approval == "required":
        return "A person with a key of scope approve must agree: incumbent approve."
    return "The use case asks for no approval: the verdict alone promotes."


def _decision(house: House, verdict: Verdict) -> str:
    """The promotion that this verdict led to, if it did."""
    for line in reversed(house.store.decisions.list(house.usecase.name, ("promotion.champion_set",))):
        if line.payload.get("evidence") == verdict.digest:
            return f"Promoted {line.at:%Y-%m-%d %H:%M} by {line.actor}: decision #{line.seq} ({line.id})."
    return ""


def _made_with(house: House, verdict: Verdict) -> dict[str, str]:
    """What the chain says computed this verdict; one that is in no decision was computed here and now."""
    for line in reversed(house.store.decisions.list(house.usecase.name, (KIND,), limit=None)):
        if line.payload["digest"] == verdict.digest:
            then = MadeWith.from_json(line.payload.get("made_with"))
            return {} if then is None else then.lines()
    return made_with().lines()


def keep_with_run(house: House, label: str, page: Path) -> None:
    """Store the page with the run that trained the challenger; a registry that is away loses the copy only."""
    ref = ModelRef.parse(label)
    try:
        run_id = house.registry.describe(ref).run_id
        if run_id is None:
            return
        with tempfile.TemporaryDirectory(prefix="incumbent-dossier-") as scratch:
            copyfile(page, Path(scratch) / f"dossier-{page.name}")
            tracker_of(house.registry).keep(run_id, Path(scratch))
    except (IncumbentError, TypeError) as exc:
        log.warning("the dossier of %s is not beside its run: %s", label, exc)


DAYS = timedelta(days=28)


def groups_of_both(
    store: Store, usecase: UseCase, champion: str, challenger: str, as_of: datetime
) -> BothGroups | None:
    """Both models by group; none where nothing is declared or no matured event was scored by both.

    Where flagged events are blocked only rates of flags are compared, as in the drift check.
    """
    columns = dict.fromkeys((*usecase.fairness.sensitive, *usecase.fairness.slices))
    if not columns:
        return None
    end = usecase.calendar.matured_until(as_of, usecase.label.matures_after)
    blocks = usecase.intervention.blocks_flagged
    rows = store.log.paired(
        usecase.name, champion, challenger, TimeWindow(back(usecase.calendar, end, DAYS), end), as_of, usecase.label,
        usecase.calendar, {name: usecase.column(name).type for name in columns}, blocks,
    )  # fmt: skip
    return both_groups(rows, usecase.fairness, champion, challenger, labelled=not blocks)
