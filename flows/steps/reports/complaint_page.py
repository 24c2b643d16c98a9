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
from flows.steps.evaluation.level_names import UNLISTED, category_levels
from monitoring.reports.html import write_page
from monitoring.reports.render import render
from monitoring.store import Decision, Store
from monitoring.store.database.frames import from_us
from monitoring.store.predictions.answers import LoggedAnswer, find_answer

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
        page_sections = [("Answer", list(self.answer.items())), ("Event", list(self.event.items()))]
        reason_rows = self.reasons.get("reasons") or []
        reason_lines = [
            (r["feature"], f"{_value_text(r)}: {r['direction']} the score ({r['contribution']:+.4f})")
            for r in reason_rows
        ]
        page_sections.append(
            ("Reasons, strongest first", reason_lines or [("none", self.reasons.get("problem", "not available"))])
        )
        other_sections = ("Model", self.model), ("Threshold", self.threshold), ("Active by", self.office)
        page_sections += [(title, list(content.items())) for title, content in other_sections]
        identical_text = {True: "yes, to the last bit", False: "NO"}.get(self.rescored["identical"], "cannot be told")
        page_sections.append(("Scored again", list((self.rescored | {"identical": identical_text}).items())))
        page_sections.append(
            ("Truth", [(label["source"], f"{label['y']}, known {label['observed_at']}") for label in self.labels])
        )
        return page_sections


def _value_text(reason: dict[str, Any]) -> str:
    """A feature's value for people; a category by the name of its level."""
    return str(reason.get("level", _plain(reason["value"])))


def _plain(value: float | None) -> str:
    """The shortest text that reads back as the same float32; a feature is no more exact than that."""
    return "missing" if value is None else str(np.float32(value)).removesuffix(".0")


def build_event_page(store: Store, usecase: UseCase, event_id: str, load: Load) -> EventPage:
    """Gather the page.

    Args:
        store: log and chain.
        usecase: whose event it is.
        event_id: as the client sent it.
        load: gives a version by its reference and contract digest, verified; may raise ``IncumbentError``.

    Raises:
        FlowRefused: the log holds no answer to that event.
    """
    answer = find_answer(store.database, usecase.name, event_id)
    if answer is None:
        raise FlowRefused(f"the log of {usecase.name} holds no answer to this event id")
    model, problem = _load_version(answer, load)
    return EventPage(
        answer=_answer(answer),
        event=json.loads(answer.body),
        reasons=_reasons(answer, model, problem),
        model=_model(answer, model),
        threshold=_threshold(store, usecase, answer, model),
        office=_role_decision(store, usecase, answer),
        rescored=_score_again(answer, model, problem),
        labels=_labels(store, usecase, event_id),
    )


def _load_version(answer: LoggedAnswer, load: Load) -> tuple[ScoringModel | None, str]:
    if answer.alias == EXTERNAL:
        return None, "an external score answered; it was given, not computed here"
    try:
        return load(ModelRef(answer.model, answer.version), answer.contract), ""
    except IncumbentError as exc:
        return None, f"the version cannot be loaded: {exc}"


def _answer(answer: LoggedAnswer) -> dict[str, Any]:
    return {
        "event_id": answer.event_id, "event_time": answer.event_time.isoformat(),
        "answered_at": answer.received_at.isoformat(), "origin": answer.origin,
        "decision": "flagged" if answer.decision else "passed", "score": answer.score, "raw_score": answer.raw_score,
        "threshold": answer.threshold, "model": f"{answer.model}/{answer.version}", "answered_as": answer.alias,
    }  # fmt: skip


def _row(answer: LoggedAnswer, model: ScoringModel) -> Any:
    """The version's own features as served, one row; ``None`` when the log lacks one."""
    if answer.features is None or not set(model.plan.names) <= set(answer.names):
        return None
    values = np.frombuffer(answer.features, dtype="<f4")
    positions = [answer.names.index(name) for name in model.plan.names]
    return np.ascontiguousarray(values[positions].reshape(1, -1))


def _reasons(answer: LoggedAnswer, model: ScoringModel | None, problem: str) -> dict[str, Any]:
    row = None if model is None else _row(answer, model)
    if model is None or row is None:
        return {"reasons": None, "problem": problem or "the log holds no features of this event"}
    contributions = model.booster.quick_contributions(model.golden.features[:4])
    explanation = explain(model.plan.names, row[0], contributions(row)[0])
    return explanation | {
        "reasons": [reason | _level(reason, category_levels(model)) for reason in explanation["reasons"]]
    }


def _level(reason: dict[str, Any], levels: dict[str, tuple[str, ...]]) -> dict[str, str]:
    """The name behind the code of a category; nothing for a number and a missing value."""
    level_names, code = levels.get(reason["feature"]), reason["value"]
    return (
        {} if level_names is None or code is None else {"level": dict(enumerate(level_names)).get(int(code), UNLISTED)}
    )


def _model(answer: LoggedAnswer, model: ScoringModel | None) -> dict[str, Any]:
    facts: dict[str, Any] = {"version": f"{answer.model}/{answer.version}", "contract_digest": answer.contract}
    if model is not None:
        metadata = model.metadata
        facts |= {
            "semantic_version": metadata.semantic_version,
            "trained_from": metadata.training_start,
            "trained_until": metadata.training_end,
            "training_rows": metadata.rows,
            "training_data": metadata.data_digest,
        }
    return facts


def _threshold(store: Store, usecase: UseCase, answer: LoggedAnswer, model: ScoringModel | None) -> dict[str, Any]:
    own_threshold = None if model is None else _own_threshold(answer, model)
    facts: dict[str, Any] = {"in_force": answer.threshold, "promoted_with_the_version": own_threshold}
    if answer.alias == EXTERNAL:
        declared_threshold = None if usecase.incumbent is None else usecase.incumbent.threshold
        return {"in_force": answer.threshold, "declared_in_the_use_case_today": declared_threshold}
    if own_threshold is None or own_threshold == answer.threshold:
        return facts
    for decision in reversed(store.decisions.list(usecase.name, ("threshold.override",), limit=None)):
        payload = decision.payload
        in_force = decision.recorded_at <= answer.received_at < datetime.fromisoformat(str(payload["until"]))
        # A replica may still have answered by an older order: only the one with this very value explains it.
        same_version = payload["model"] == answer.model and str(payload["version"]) == answer.version
        if same_version and in_force and float(payload["value"]) == answer.threshold:
            return facts | {
                "ordered_by": " and ".join(payload["owners"]), "reason": payload["reason"], "until": payload["until"],
                "decision": decision.id, "evidence_based": False,
            }  # fmt: skip
    return facts | {"warning": "no decision in the chain explains this threshold"}


def _own_threshold(answer: LoggedAnswer, model: ScoringModel) -> float | None:
    """The version's own threshold for this event; none where it goes by an amount that was not logged."""
    if model.threshold.amount is None:
        return float(model.threshold.value)
    row = _row(answer, model)
    thresholds = None if row is None else model.cuts(row)
    return None if thresholds is None else float(thresholds[0])


def _role_decision(store: Store, usecase: UseCase, answer: LoggedAnswer) -> dict[str, Any]:
    """The newest decision before the answer that gave the version its role."""
    if answer.alias == EXTERNAL:
        return _external_authority(store, usecase, answer)
    role = "challenger" if answer.alias == "challenger" else "champion"
    seqs = [seq for version, _, seq in store.decisions.terms(answer.model, role) if version == answer.version]
    decisions_by_seq = {d.seq: d for d in store.decisions.list(usecase.name, limit=None)}
    role_decisions = [
        decisions_by_seq[seq]
        for seq in seqs
        if seq in decisions_by_seq and decisions_by_seq[seq].recorded_at <= answer.received_at
    ]
    if not role_decisions:
        return {"warning": "no decision before the answer made this version champion"}
    return _authority(role_decisions[-1], list(decisions_by_seq.values())) | _holder_at_event_time(store, answer, role)


def _holder_at_event_time(store: Store, answer: LoggedAnswer, role: str) -> dict[str, Any]:
    """Who held the role at the event's time, where that is another: the event arrived after a change of champion."""
    holder = store.decisions.role_at(answer.model, role, answer.event_time)
    if holder == answer.version:
        return {}
    holder_text = "nobody" if holder is None else f"version {holder}"
    return {"at_event_time": f"{holder_text} was {role}; whoever is active when an event arrives answers it"}


def _external_authority(store: Store, usecase: UseCase, answer: LoggedAnswer) -> dict[str, Any]:
    """An external score is champion by the use-case file, until a model takes it and from its return on."""
    decisions = store.decisions.list(usecase.name, limit=None)
    role_changes = [
        (decision, change)
        for decision in decisions
        if decision.recorded_at <= answer.received_at
        for change in decision.payload.get("roles", ())
        if change["role"] == "champion"
    ]
    decision, change = role_changes[-1] if role_changes else (None, {"version": None})
    facts: dict[str, Any] = {"external": f"the score of column {answer.model}"}
    if decision is not None and change["version"] is not None:
        holder = f"{change['model']}/{change['version']}"
        return facts | {
            "warning": f"by decision {decision.id} (number {decision.seq}) {holder} was active, not this score"
        }
    if decision is not None and decision.kind == RETURN:
        return facts | _authority(decision, decisions)
    if usecase.incumbent is None or usecase.incumbent.column != answer.model:
        return facts | {"warning": "the use-case file of today declares no such external incumbent"}
    return facts | {"by": "declaration in the use-case file; no model had become champion before this answer"}


def _authority(decision: Decision, decisions: list[Decision]) -> dict[str, Any]:
    payload = decision.payload
    facts: dict[str, Any] = {
        "decision": f"{decision.id} (number {decision.seq})", "kind": decision.kind, "by": decision.actor,
        "at": decision.at.isoformat(), "recorded_at": decision.recorded_at.isoformat(), "reason": payload.get("reason"),
        "replaced": payload.get("from_version"), "verdict": payload.get("evidence"),
    }  # fmt: skip
    for other in decisions:
        if other.kind == "approval.granted" and other.payload["digest"] == payload.get("evidence"):
            facts["approved_by"] = f"{other.payload['owner']} (decision {other.id})"
        if other.payload.get("op_id") == payload.get("op_id") and "emergency" in other.payload:
            facts["evidence_based"] = False
            facts["emergency_by"] = " and ".join(other.payload["emergency"]["owners"])
    return facts


def _score_again(answer: LoggedAnswer, model: ScoringModel | None, problem: str) -> dict[str, Any]:
    row = None if model is None else _row(answer, model)
    if model is None or row is None:
        return {"identical": None, "problem": problem or "the log holds no features of this event"}
    holder = ModelHolder(ModelRef(answer.model, answer.version), model, answer.contract)
    raw = holder.predict(row)
    score = float(model.calibrator.apply(raw)[0])
    decision = bool(score >= answer.threshold)
    identical = score == answer.score and float(raw[0]) == answer.raw_score and decision == answer.decision
    return {
        "score": score,
        "raw_score": float(raw[0]),
        "decision": "flagged" if decision else "passed",
        "identical": identical,
    }


def _labels(store: Store, usecase: UseCase, event_id: str) -> list[dict[str, Any]]:
    return [
        {"source": label.source, "y": int(label.y), "observed_at": from_us(label.observed_at).isoformat()}
        for label in store.labels.of_events(usecase.name, [event_id])
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
