"""Notices of what entered the chain of decisions: whoever acted, and also when the actor died right after it.

A row of :data:`_READERS` says for one kind of decision what people are told, if anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from flows.notify.notice import Notice, identified, readable

if TYPE_CHECKING:
    from bentos.usecase.definition import UseCase
    from flows.workspace.workspace import House
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
Words = tuple[str, str, str, str, str]
"""Kind, outcome, title, text, what to do."""


def new_decisions(house: House) -> tuple[list[Notice], dict[tuple[str, str], int]]:
    """Notices of the decisions since the last look, and how far the chain was read.

    The first look ever tells nothing: what is in the chain by then is history.
    """
    usecase, store = house.usecase.name, house.store
    before = store.notices.mark(usecase, MARK)
    if before is None:
        newest = store.decisions.last()
        return [], {(usecase, MARK): 0 if newest is None else newest.seq}
    # The oldest first: a long absence is read in several looks.
    lines = store.decisions.list(usecase, after=before, limit=None)[:_LIMIT]
    if not lines:
        return [], {}
    notices = [notice for line in lines if (notice := notice_of(house, line)) is not None]
    return notices, {(usecase, MARK): lines[-1].seq}


def notice_of(house: House, line: Decision) -> Notice | None:
    """What people are told of one decision; none where it asks for nobody's attention."""
    read = _READERS.get(line.kind)
    words = None if read is None else read(house.usecase, line)
    if words is None:
        return None
    kind, outcome, title, text, todo = words
    where = (house.settings.env, line.usecase, str(line.payload.get("model", house.model)))
    notice = Notice(
        kind, *where, outcome, text, line.at.isoformat(), title=title, since=line.recorded_at.isoformat(), todo=todo
    )
    # A rollback without a registry is pinned first and carried out later: one matter.
    return identified(notice, outcome, line.payload.get("op_id", line.hash))


def plain_reason(reason: str) -> str:
    """A reason in words: the guard's name becomes what it found."""
    name, colon, rest = reason.partition(": ")
    return f"{_GUARDS[name]} ({rest})" if colon and name in _GUARDS else reason


def _rollback(usecase: UseCase, line: Decision) -> Words:
    said = line.payload
    left, back = _version(said.get("from_version")), _version(said.get("to_version"))
    at, reason = readable(line.recorded_at), plain_reason(str(said.get("reason", "no reason was written")))
    listed = "The events that this changes are listed among the reports."
    if line.actor == WATCH:
        text = f"{_upper(left)} was rolled back by itself at {at}: {reason}. {_upper(back)} answers again."
        todo = f"Look at why {left} failed before anybody promotes it again: incumbent status. {listed}"
        return "rollback", "automatic", f"Rolled back to {back}", text, todo
    if line.actor == EXPIRY:
        text = f"The emergency promotion of {left} ended at {at}: nobody had reviewed it. {_upper(back)} answers again."
        todo = f"If {left} is still wanted, compare and promote it in the usual way. {listed}"
        return "emergency", "ended", f"An emergency ended, {back} answers again", text, todo
    text = f"{_upper(left)} was rolled back at {at} by {line.actor}: {reason}. {_upper(back)} answers again."
    return "rollback", "by_hand", f"Rolled back to {back}", text, "Nothing, if you know of it; else: incumbent status."


def _promotion(usecase: UseCase, line: Decision) -> Words:
    said = line.payload
    new, old = _version(said.get("to_version")), _version(said.get("from_version"))
    text = f"{_upper(new)} took the place of {old} at {readable(line.recorded_at)}, promoted by {line.actor}."
    watched = f"It is watched for {usecase.watch.period.days} days"
    end = "and rolled back by itself if it harms" if usecase.watch.automatic else "and people decide about a rollback"
    return "promotion", "done", f"{_upper(new)} is in charge", text, f"Nothing. {watched} {end}."


def _breach(usecase: UseCase, line: Decision) -> Words | None:
    if usecase.watch.automatic:
        return None  # the rollback itself is told
    said = line.payload
    why = [plain_reason(f"{one['name']}: {one['detail']}") for one in said["checks"] if one["status"] == "FAIL"]
    new, old = _version(said["version"]), _version(said["restored"])
    text = f"{_upper(new)} fails its watch: {'; '.join(why)}. This use case leaves a rollback to people."
    return (
        "rollback",
        "needed",
        f"{_upper(new)} should be rolled back",
        text,
        f"Decide: incumbent rollback brings {old} back.",
    )


def _emergency(usecase: UseCase, line: Decision) -> Words:
    said = line.payload
    by = " and ".join(str(owner) for owner in said.get("owners", ()))
    until = readable(str(said["review_by"]))
    new = _version(said["version"])
    text = (
        f"{by} ordered {new} into office without evidence: {said['reason']}. It ends at {until} unless it is reviewed."
    )
    todo = "A third person with a key of scope approve reviews it: incumbent promote --help shows how."
    return "emergency", "begun", f"An emergency promotion of {new}", text, todo


def _threshold(usecase: UseCase, line: Decision) -> Words:
    said = line.payload
    by = " and ".join(str(owner) for owner in said.get("owners", ()))
    version, until = _version(said["version"]), readable(str(said["until"]))
    text = f"{by} set another threshold for {version} until {until}: {said['reason']}."
    return "emergency", "begun", "Another threshold for a while", text, "Nothing: it ends by itself at that time."


def _threshold_over(usecase: UseCase, line: Decision) -> Words:
    said = line.payload
    version, until = _version(said["version"]), readable(str(said["until"]))
    text = f"The other threshold of {version} ended at {until}; its own holds again."
    return "emergency", "ended", "The usual threshold holds again", text, "Nothing."


def _ramp(usecase: UseCase, line: Decision) -> Words | None:
    said = line.payload
    if said.get("event") != "ramp.returned":
        return None
    reasons = "; ".join(str(one) for one in said.get("reasons", ())) or "its guard did not hold"
    text = f"The challenger's share of the traffic was taken back to 0 at {readable(line.recorded_at)}: {reasons}."
    todo = "Look at the challenger's answers before another ramp is started: incumbent canary status."
    return "ramp", "returned", "A ramp was taken back", f"{text} The champion answers everything.", todo


_READERS: Final[Mapping[str, Callable[[Any, Any], Words | None]]] = {
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


def _version(found: object) -> str:
    return "the external score" if found in (None, "external") else f"version {found}"


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
