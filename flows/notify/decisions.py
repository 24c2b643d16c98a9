"""Notices of what entered the chain of decisions: whoever acted, and also when the actor died right after it.

A row of :data:`_READERS` says for one kind of decision what people are told, if anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from flows.notify.notice import Notice, time_text, with_id

if TYPE_CHECKING:
    from bentos.usecase.definition import UseCase
    from flows.workspace.workspace import Workspace
    from monitoring.store import Decision

MARK: Final = "decisions"
# Names of other modules, written again here because importing those costs a small process half its memory; a test
# keeps them in step.
WATCH: Final = "watch"
EXPIRY: Final = "expiry"
BREACHED: Final = "watch.breached"
EXPIRED: Final = "threshold.expired"
ROUTING: Final = "routing"
_LIMIT: Final = 500
_GUARDS: Final = {
    "error_rate": "too many requests failed",
    "p99_ms": "its answers were too slow",
    "alert_rate_low": "it flagged too few events",
    "alert_rate_high": "it flagged too many events",
    "score_psi": "its scores moved away from those it gave before",
    "matured_harm": "it cost more than the version before it",
}
NoticeText = tuple[str, str, str, str, str]
"""Kind, outcome, title, text, what to do."""


def new_decisions(workspace: Workspace) -> tuple[list[Notice], dict[tuple[str, str], int]]:
    """Notices of the decisions since the last look, and how far the chain was read.

    The first look ever tells nothing: what is in the chain by then is history.
    """
    usecase, store = workspace.usecase.name, workspace.store
    last_seq = store.notices.mark(usecase, MARK)
    if last_seq is None:
        newest = store.decisions.last()
        return [], {(usecase, MARK): 0 if newest is None else newest.seq}
    # The oldest first: a long absence is read in several looks.
    decisions = store.decisions.list(usecase, after=last_seq, limit=None)[:_LIMIT]
    if not decisions:
        return [], {}
    notices = [notice for decision in decisions if (notice := notice_of(workspace, decision)) is not None]
    return notices, {(usecase, MARK): decisions[-1].seq}


def notice_of(workspace: Workspace, decision: Decision) -> Notice | None:
    """What people are told of one decision; none where it asks for nobody's attention."""
    reader = _READERS.get(decision.kind)
    words = None if reader is None else reader(workspace.usecase, decision)
    if words is None:
        return None
    kind, outcome, title, text, todo = words
    scope = (workspace.settings.env, decision.usecase, str(decision.payload.get("model", workspace.model)))
    notice = Notice(
        kind,
        *scope,
        outcome,
        text,
        decision.at.isoformat(),
        title=title,
        since=decision.recorded_at.isoformat(),
        todo=todo,
    )
    # A rollback without a registry is pinned first and carried out later: one matter.
    return with_id(notice, outcome, decision.payload.get("op_id", decision.hash))


def plain_reason(reason: str) -> str:
    """A reason in words: the guard's name becomes what it found."""
    name, colon, rest = reason.partition(": ")
    return f"{_GUARDS[name]} ({rest})" if colon and name in _GUARDS else reason


def _rollback(usecase: UseCase, decision: Decision) -> NoticeText:
    data = decision.payload
    old, new = _version(data.get("from_version")), _version(data.get("to_version"))
    at, reason = time_text(decision.recorded_at), plain_reason(str(data.get("reason", "no reason was written")))
    hint = "The events that this changes are listed among the reports."
    if decision.actor == WATCH:
        text = f"{_upper(old)} was rolled back by itself at {at}: {reason}. {_upper(new)} answers again."
        todo = f"Look at why {old} failed before anybody promotes it again: incumbent status. {hint}"
        return "rollback", "automatic", f"Rolled back to {new}", text, todo
    if decision.actor == EXPIRY:
        text = f"The emergency promotion of {old} ended at {at}: nobody had reviewed it. {_upper(new)} answers again."
        todo = f"If {old} is still wanted, compare and promote it in the usual way. {hint}"
        return "emergency", "ended", f"An emergency ended, {new} answers again", text, todo
    text = f"{_upper(old)} was rolled back at {at} by {decision.actor}: {reason}. {_upper(new)} answers again."
    return "rollback", "by_hand", f"Rolled back to {new}", text, "Nothing, if you know of it; else: incumbent status."


def _promotion(usecase: UseCase, decision: Decision) -> NoticeText:
    data = decision.payload
    new, old = _version(data.get("to_version")), _version(data.get("from_version"))
    text = f"{_upper(new)} took the place of {old} at {time_text(decision.recorded_at)}, promoted by {decision.actor}."
    watch_note = f"It is watched for {usecase.watch.period.days} days"
    end_note = (
        "and rolled back by itself if it harms" if usecase.watch.automatic else "and people decide about a rollback"
    )
    return "promotion", "done", f"{_upper(new)} is in charge", text, f"Nothing. {watch_note} {end_note}."


def _breach(usecase: UseCase, decision: Decision) -> NoticeText | None:
    if usecase.watch.automatic:
        return None  # the rollback itself is told
    data = decision.payload
    failures = [
        plain_reason(f"{check['name']}: {check['detail']}") for check in data["checks"] if check["status"] == "FAIL"
    ]
    new, old = _version(data["version"]), _version(data["restored"])
    text = f"{_upper(new)} fails its watch: {'; '.join(failures)}. This use case leaves a rollback to people."
    return (
        "rollback",
        "needed",
        f"{_upper(new)} should be rolled back",
        text,
        f"Decide: incumbent rollback brings {old} back.",
    )


def _emergency(usecase: UseCase, decision: Decision) -> NoticeText:
    data = decision.payload
    by = " and ".join(str(owner) for owner in data.get("owners", ()))
    until = time_text(str(data["review_by"]))
    new = _version(data["version"])
    text = (
        f"{by} ordered {new} into the champion's role without evidence: {data['reason']}. "
        f"It ends at {until} unless it is reviewed."
    )
    todo = "A third person with a key of scope approve reviews it: incumbent promote --help shows how."
    return "emergency", "begun", f"An emergency promotion of {new}", text, todo


def _threshold(usecase: UseCase, decision: Decision) -> NoticeText:
    data = decision.payload
    by = " and ".join(str(owner) for owner in data.get("owners", ()))
    version, until = _version(data["version"]), time_text(str(data["until"]))
    text = f"{by} set another threshold for {version} until {until}: {data['reason']}."
    return "emergency", "begun", "Another threshold for a while", text, "Nothing: it ends by itself at that time."


def _threshold_over(usecase: UseCase, decision: Decision) -> NoticeText:
    data = decision.payload
    version, until = _version(data["version"]), time_text(str(data["until"]))
    text = f"The other threshold of {version} ended at {until}; its own holds again."
    return "emergency", "ended", "The usual threshold holds again", text, "Nothing."


def _ramp(usecase: UseCase, decision: Decision) -> NoticeText | None:
    data = decision.payload
    if data.get("event") != "ramp.returned":
        return None
    reasons = "; ".join(str(reason) for reason in data.get("reasons", ())) or "its guard did not hold"
    text = f"The challenger's share of the traffic was taken back to 0 at {time_text(decision.recorded_at)}: {reasons}."
    todo = "Look at the challenger's answers before another ramp is started: incumbent canary status."
    return "ramp", "returned", "A ramp was taken back", f"{text} The champion answers everything.", todo


_READERS: Final[Mapping[str, Callable[[Any, Any], NoticeText | None]]] = {
    "rollback.champion_set": _rollback,
    "rollback.pinned": _rollback,
    "rollback.external": _rollback,
    "promotion.champion_set": _promotion,
    BREACHED: _breach,
    "emergency.ordered": _emergency,
    "threshold.override": _threshold,
    EXPIRED: _threshold_over,
    ROUTING: _ramp,
}


def _version(version: object) -> str:
    return "the external score" if version in (None, "external") else f"version {version}"


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
