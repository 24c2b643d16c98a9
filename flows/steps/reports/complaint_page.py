"""One page about one answer, for the desk that takes complaints: what was said, why, by whom, on whose authority.

Everything is read from the log and the chain of decisions, and the event is scored again with the
version that answered, on the features as they were served. The page says whether score and decision
come out the same, to the last bit.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from bentos.errors import IncumbentError
from bentos.model.scoring_model import ScoringModel
from bentos.promotion.external_return import RETURN
from bentos.registry.ports import ModelRef
from bentos.registry.routing_policy import EXTERNAL
from bentos.scoring.active_models import ModelHolder
from bentos.scoring.explanations import explain
from bentos.usecase.definition import UseCase
from flows.errors import FlowRefused
from flows.steps.evaluation.level_names import UNLISTED, levels_of
from monitoring.reports.html import write_page
from monitoring.reports.render import render
from monitoring.store import Decision, Store
from monitoring.store.database.frames import from_us
from monitoring.store.predictions.answers import Answered, answered_event

Load = Callable[[ModelRef, str | None], ScoringModel]


@dataclass(frozen=True)
class EventPage:
    """What is known about one answer; plain JSON under each heading.

    Attributes:
        answer: event id, times, score, threshold, decision, model.
        event: the declared columns as logged.
        reasons: the strongest TreeSHAP contributions, a category with the name of its level, and their sum; empty
            where the version cannot be loaded.
        model: the version, its contract digest and training data.
        threshold: the value in force, whether it was promoted with the version or ordered, and by whom.
        office: the decision that made the version champion: who, when, on which verdict, approved by whom.
        rescored: the score and decision again, and whether both are identical.
        labels: what is known of the truth.
    """

    answer: dict[str, Any]
    event: dict[str, Any]
    reasons: dict[str, Any]
    model: dict[str, Any]
    threshold: dict[str, Any]
    office: dict[str, Any]
    rescored: dict[str, Any]
    labels: list[dict[str, Any]]

    def to_json(self) -> dict[str, Any]:
        """One JSON object."""
        return dict(vars(self))

    def sections(self) -> list[tuple[str, list[tuple[str, object]]]]:
        """Headings with rows of name and value, as people read them."""
        found = [("Answer", list(self.answer.items())), ("Event", list(self.event.items()))]
        told = self.reasons.get("reasons") or []
        why = [(r["feature"], f"{_told(r)}: {r['direction']} the score ({r['contribution']:+.4f})") for r in told]
        found.append(("Reasons, strongest first", why or [("none", self.reasons.get("problem", "not available"))]))
        rest = ("Model", self.model), ("Threshold", self.threshold), ("In office by", self.office)
        found += [(title, list(content.items())) for title, content in rest]
        same = {True: "yes, to the last bit", False: "NO"}.get(self.rescored["identical"], "cannot be told")
        found.append(("Scored again", list((self.rescored | {"identical": same}).items())))
        found.append(("Truth", [(one["source"], f"{one['y']}, known {one['observed_at']}") for one in self.labels]))
        return found


def _told(reason: dict[str, Any]) -> str:
    """A feature's value for people; a category by the name of its level."""
    return str(reason.get("level", _plain(reason["value"])))


def _plain(value: float | None) -> str:
    """The shortest text that reads back as the same float32; a feature is no more exact than that."""
    return "missing" if value is None else str(np.float32(value)).removesuffix(".0")


def event_page(store: Store, usecase: UseCase, event_id: str, load: Load) -> EventPage:
    """Gather the page.

    Args:
        store: log and chain.
        usecase: whose event it is.
        event_id: as the client sent it.
        load: gives a version by its reference and contract digest, verified; may raise ``IncumbentError``.

    Raises:
        FlowRefused: the log holds no answer to that event.
    """
    found = answered_event(store.database, usecase.name, event_id)
    if found is None:
        raise FlowRefused(f"the log of {usecase.name} holds no answer to this event id")
    model, problem = _loaded(found, load)
    return EventPage(
        answer=_answer(found),
        event=json.loads(found.body),
        reasons=_reasons(found, model, problem),
        model=_model(found, model),
        threshold=_threshold(store, usecase, found, model),
        office=_office(store, usecase, found),
        rescored=_rescored(found, model, problem),
        labels=_labels(store, usecase, event_id),
    )


def _loaded(found: Answered, load: Load) -> tuple[ScoringModel | None, str]:
    if found.alias == EXTERNAL:
        return None, "an external score answered; it was given, not computed here"
    try:
        return load(ModelRef(found.model, found.version), found.contract), ""
    except IncumbentError as exc:
        return None, f"the version cannot be loaded: {exc}"


def _answer(found: Answered) -> dict[str, Any]:
    return {
        "event_id": found.event_id, "event_time": found.event_time.isoformat(),
        "answered_at": found.received_at.isoformat(), "origin": found.origin,
        "decision": "flagged" if found.decision else "passed", "score": found.score, "raw_score": found.raw_score,
        "threshold": found.threshold, "model": f"{found.model}/{found.version}", "answered_as": found.alias,
    }  # fmt: skip


def _row(found: Answered, model: ScoringModel) -> Any:
    """The version's own features as served, one row; ``None`` when the log lacks one."""
    if found.features is None or not set(model.plan.names) <= set(found.names):
        return None
    values = np.frombuffer(found.features, dtype="<f4")
    places = [found.names.index(name) for name in model.plan.names]
    return np.ascontiguousarray(values[places].reshape(1, -1))


def _reasons(found: Answered, model: ScoringModel | None, problem: str) -> dict[str, Any]:
    row = None if model is None else _row(found, model)
    if model is None or row is None:
        return {"reasons": None, "problem": problem or "the log holds no features of this event"}
    contributions = model.booster.quick_contributions(model.golden.features[:4])
    said = explain(model.plan.names, row[0], contributions(row)[0])
    return said | {"reasons": [reason | _level(reason, levels_of(model)) for reason in said["reasons"]]}


def _level(reason: dict[str, Any], levels: dict[str, tuple[str, ...]]) -> dict[str, str]:
    """The name behind the code of a category; nothing for a number and a missing value."""
    known, code = levels.get(reason["feature"]), reason["value"]
    return {} if known is None or code is None else {"level": dict(enumerate(known)).get(int(code), UNLISTED)}


def _model(found: Answered, model: ScoringModel | None) -> dict[str, Any]:
    told: dict[str, Any] = {"version": f"{found.model}/{found.version}", "contract_digest": found.contract}
    if model is not None:
        about = model.metadata
        told |= {
            "semantic_version": about.semantic_version, "trained_from": about.training_start,
            "trained_until": about.training_end, "training_rows": about.rows, "training_data": about.data_digest,
        }  # fmt: skip
    return told


def _threshold(store: Store, usecase: UseCase, found: Answered, model: ScoringModel | None) -> dict[str, Any]:
    promoted = None if model is None else _promoted(found, model)
    told: dict[str, Any] = {"in_force": found.threshold, "promoted_with_the_version": promoted}
    if found.alias == EXTERNAL:
        declared = None if usecase.incumbent is None else usecase.incumbent.threshold
        return {"in_force": found.threshold, "declared_in_the_use_case_today": declared}
    if promoted is None or promoted == found.threshold:
        return told
    for line in reversed(store.decisions.list(usecase.name, ("threshold.override",), limit=None)):
        said = line.payload
        held = line.recorded_at <= found.received_at < datetime.fromisoformat(str(said["until"]))
        # A replica may still have answered by an older order: only the one with this very value explains it.
        ours = said["model"] == found.model and str(said["version"]) == found.version
        if ours and held and float(said["value"]) == found.threshold:
            return told | {
                "ordered_by": " and ".join(said["owners"]), "reason": said["reason"], "until": said["until"],
                "decision": line.id, "evidence_based": False,
            }  # fmt: skip
    return told | {"warning": "no decision in the chain explains this threshold"}


def _promoted(found: Answered, model: ScoringModel) -> float | None:
    """The version's own threshold for this event; none where it goes by an amount that was not logged."""
    if model.threshold.amount is None:
        return float(model.threshold.value)
    row = _row(found, model)
    cuts = None if row is None else model.cuts(row)
    return None if cuts is None else float(cuts[0])


def _office(store: Store, usecase: UseCase, found: Answered) -> dict[str, Any]:
    """The newest decision before the answer that gave the version its role."""
    if found.alias == EXTERNAL:
        return _external_office(store, usecase, found)
    role = "challenger" if found.alias == "challenger" else "champion"
    seqs = [seq for version, _, seq in store.decisions.terms(found.model, role) if version == found.version]
    lines = {d.seq: d for d in store.decisions.list(usecase.name, limit=None)}
    held = [lines[seq] for seq in seqs if seq in lines and lines[seq].recorded_at <= found.received_at]
    if not held:
        return {"warning": "no decision before the answer made this version champion"}
    return _authority(held[-1], list(lines.values())) | _at_its_own_time(store, found, role)


def _at_its_own_time(store: Store, found: Answered, role: str) -> dict[str, Any]:
    """Who held the role at the event's time, where that is another: the event arrived after a change of office."""
    then = store.decisions.role_at(found.model, role, found.event_time)
    if then == found.version:
        return {}
    name = "nobody" if then is None else f"version {then}"
    return {"at_event_time": f"{name} was {role}; whoever is in office when an event arrives answers it"}


def _external_office(store: Store, usecase: UseCase, found: Answered) -> dict[str, Any]:
    """An external score holds office by the use-case file, until a model takes it and from its return on."""
    lines = store.decisions.list(usecase.name, limit=None)
    seated = [
        (line, change)
        for line in lines
        if line.recorded_at <= found.received_at
        for change in line.payload.get("roles", ())
        if change["role"] == "champion"
    ]
    line, change = seated[-1] if seated else (None, {"version": None})
    told: dict[str, Any] = {"external": f"the score of column {found.model}"}
    if line is not None and change["version"] is not None:
        holder = f"{change['model']}/{change['version']}"
        return told | {"warning": f"by decision {line.id} (number {line.seq}) {holder} was in office, not this score"}
    if line is not None and line.kind == RETURN:
        return told | _authority(line, lines)
    if usecase.incumbent is None or usecase.incumbent.column != found.model:
        return told | {"warning": "the use-case file of today declares no such external incumbent"}
    return told | {"by": "declaration in the use-case file; no model had taken office before this answer"}


def _authority(line: Decision, lines: list[Decision]) -> dict[str, Any]:
    said = line.payload
    told: dict[str, Any] = {
        "decision": f"{line.id} (number {line.seq})", "kind": line.kind, "by": line.actor,
        "at": line.at.isoformat(), "recorded_at": line.recorded_at.isoformat(), "reason": said.get("reason"),
        "replaced": said.get("from_version"), "verdict": said.get("evidence"),
    }  # fmt: skip
    for other in lines:
        if other.kind == "approval.granted" and other.payload["digest"] == said.get("evidence"):
            told["approved_by"] = f"{other.payload['owner']} (decision {other.id})"
        if other.payload.get("op_id") == said.get("op_id") and "emergency" in other.payload:
            told["evidence_based"] = False
            told["emergency_by"] = " and ".join(other.payload["emergency"]["owners"])
    return told


def _rescored(found: Answered, model: ScoringModel | None, problem: str) -> dict[str, Any]:
    row = None if model is None else _row(found, model)
    if model is None or row is None:
        return {"identical": None, "problem": problem or "the log holds no features of this event"}
    holder = ModelHolder(ModelRef(found.model, found.version), model, found.contract)
    raw = holder.predict(row)
    score = float(model.calibrator.apply(raw)[0])
    decision = bool(score >= found.threshold)
    same = score == found.score and float(raw[0]) == found.raw_score and decision == found.decision
    return {
        "score": score, "raw_score": float(raw[0]), "decision": "flagged" if decision else "passed", "identical": same,
    }  # fmt: skip


def _labels(store: Store, usecase: UseCase, event_id: str) -> list[dict[str, Any]]:
    return [
        {"source": one.source, "y": int(one.y), "observed_at": from_us(one.observed_at).isoformat()}
        for one in store.labels.of_events(usecase.name, [event_id])
    ]


def write_event_page(path: Path, page: EventPage) -> Path:
    """Write the page as one self-contained HTML file; returns ``path``."""
    again, style = {True: ("identical", "PASS"), False: ("NOT identical", "FAIL")}.get(
        page.rescored["identical"], ("not possible", "INSUFFICIENT")
    )
    body = render(
        "event.html", event_id=page.answer["event_id"], decision=str(page.answer["decision"]).capitalize(),
        again=f"Scored again: {again}.", style=style,
        sections=[(title, [(_label(n), _text(v)) for n, v in rows]) for title, rows in page.sections()],
    )  # fmt: skip
    return write_page(path, f"Answer to {page.answer['event_id']}", body)


def _label(name: str) -> str:
    return name.replace("_", " ")


def _text(value: object) -> str:
    return "-" if value is None else str(value)
