"""Break-glass: what two people may do together without evidence, for a while, on the record.

Two keys of scope ``approve`` with different owners are needed. A threshold order ends by itself at its
time, in every serving process. An emergency promotion ends at its time too, unless a third person has
reviewed it by then: the scribe's process rolls it back (:mod:`bentos.release.expiry`).

Neither has a verdict: a verdict is what evidence says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from bentos.errors import ReleaseError
from bentos.keys import Key, KeyRing
from bentos.promotion.carry_out import carry_out
from bentos.promotion.comparison_plans import end_comparisons
from bentos.promotion.context import ReleaseContext
from bentos.promotion.evidence import ORDER
from bentos.promotion.preconditions import Precondition, refuse_barred
from bentos.promotion.request import PlannedChange, ReleaseOutcome, Request, version_text
from bentos.registry.ports import ModelRef
from bentos.registry.routing_policy import EXTERNAL
from bentos.usecase.definition import UseCase
from monitoring.core.hashing import canonical_json, sha256_hex
from monitoring.store import Decision, Store

LONGEST_ORDER: Final = timedelta(days=7)
"""A threshold that is needed for longer belongs into a model version."""
EVIDENCE_BASED: Final = "evidence_based"


@dataclass(frozen=True)
class TwoKeys:
    """Two valid keys of two people."""

    first: Key
    second: Key

    @property
    def owners(self) -> tuple[str, str]:
        """Whose keys they are."""
        return self.first.owner, self.second.owner

    def to_json(self) -> dict[str, Any]:
        """What the record says of them: owners and ids, never a secret."""
        return {"owners": list(self.owners), "keys": [self.first.id, self.second.id]}


def two_people(ring: KeyRing, tokens: Sequence[str], now: datetime) -> TwoKeys:
    """The two keys behind two tokens.

    Args:
        ring: the installation's keys.
        tokens: as two people gave them.
        now: machine time.

    Raises:
        KeyInvalid, ScopeMissing: a token is no valid key of scope ``approve``.
        ReleaseError: there are not two, or both belong to one person.
    """
    if len(tokens) != 2:
        raise ReleaseError(f"two people's keys are needed, {len(tokens)} given; name two files with --key-file")
    keys = TwoKeys(*(ring.check(token.strip(), "approve", now) for token in tokens))
    _require_two_people(keys)
    return keys


def order_threshold(
    store: Store, usecase: UseCase, model: str, value: float, until: datetime, keys: TwoKeys, request: Request
) -> Decision:
    """Replace the threshold of the active version until a moment; every replica follows within seconds.

    ``until`` and the time of the request are machine time. The order is bound to the version: another one that becomes
    champion meanwhile answers by its own threshold.

    Raises:
        ReleaseError: the value, the time or the reason cannot be, or no model is active.
    """
    _require_reason(request.reason)
    if not (math.isfinite(value) and 0.0 <= value <= 1.0):
        raise ReleaseError(f"a threshold lies between 0 and 1; {value} does not")
    if not request.at < until <= request.at + LONGEST_ORDER:
        raise ReleaseError(f"the order must end after now and within {LONGEST_ORDER.days} days; {until} does not")
    version = _champion_version(store, model)
    payload = {"model": model, "version": version, "value": value, "until": until.isoformat()}
    payload |= {"reason": request.reason, EVIDENCE_BASED: False, **keys.to_json()}
    return store.decisions.append(usecase.name, "threshold.override", payload, request.actor, request.at)


def lift_threshold(store: Store, usecase: UseCase, model: str, key: Key, request: Request) -> Decision:
    """End a threshold order before its time; one person may.

    Raises:
        ReleaseError: none is in force, or no reason was given.
    """
    _require_reason(request.reason)
    order = store.orders.standing(model).threshold
    if order is None or order.until <= request.at:
        raise ReleaseError(f"no threshold order is in force for {model}")
    payload = {"model": model, "version": order.version, "order": order.decision, "reason": request.reason}
    payload |= {"owners": [key.owner], "keys": [key.id]}
    return store.decisions.append(usecase.name, "threshold.lifted", payload, request.actor, request.at)


def promote_emergency(
    context: ReleaseContext, version: str, keys: TwoKeys, request: Request, *, until: datetime | None = None
) -> ReleaseOutcome:
    """Put a version into the champion's role without a verdict, at any hour, until a moment of machine time.

    It must hold ``@challenger`` or ``@candidate``, so its gates were passed. The order of the two people enters the
    chain first, and the promotion rests on it. The steps, the journal and the way back are those of every promotion.
    The request is of machine time; ``until`` is when it ends unless a third person has reviewed it, at most
    ``[promotion] emergency_review`` from then, which is also the default.

    Raises:
        ReleaseError: it holds neither role, is barred, the end cannot be, or no reason was given.
    """
    _require_reason(request.reason)
    _require_two_people(keys)
    store, usecase, ref, now = context.store, context.usecase, ModelRef(context.model, version), request.at
    champion = context.holder("champion")
    review_by = review_time(usecase, now, until)
    facts = {EVIDENCE_BASED: False, **keys.to_json(), "reason": request.reason, "review_by": review_by.isoformat()}
    digest = sha256_hex(canonical_json({**facts, "to": ref.label, "from": champion, "at": now.isoformat()}))
    order = {"model": ref.name, "version": version, "from_version": champion, "digest": digest, **facts}

    def require_role() -> None:
        if version not in (context.holder("challenger"), context.holder("candidate")):
            raise ReleaseError(f"version {version} is neither @challenger nor @candidate: its gates are not known")
        if champion == version:
            raise ReleaseError(f"{version_text(champion)} is active already")

    preconditions = (
        Precondition("challenger or candidate", require_role),
        Precondition("not barred", lambda: refuse_barred(context, ref)),
        Precondition(
            "ordered", lambda: store.decisions.append(usecase.name, ORDER, order, request.actor, now), in_preview=False
        ),
    )
    # In a preview nobody has ordered anything yet, so it rests on nothing.
    change = PlannedChange("promotion", champion, version, "" if request.preview else digest)
    emergency = replace(request, reason=f"EMERGENCY: {request.reason}")
    outcome = carry_out(context, emergency, change, preconditions, {"emergency": facts})
    if not request.preview:
        end_comparisons(store, usecase.name, ref.label, None, now, request.actor)
    return outcome


def review_time(usecase: UseCase, now: datetime, until: datetime | None) -> datetime:
    """When an emergency promotion of ``now`` ends without a review; ``ReleaseError`` for a time that cannot be."""
    latest = now + usecase.promotion.emergency_review
    if until is not None and not now < until <= latest:
        raise ReleaseError(f"an emergency must end after now and by {latest.isoformat()}; {until.isoformat()} does not")
    return latest if until is None else until


@dataclass(frozen=True)
class Emergency:
    """One emergency promotion, as far as its review has come.

    Attributes:
        op_id: the operation; ``decision`` is the seq of its first line.
        version: what was put into the champion's role.
        at: business time.
        review_by: when somebody must have looked.
        owners: who ordered it.
        reviewed_by: the third person, once one has looked.
        in_office: whether the version still is.
        state: ``open``, ``overdue``, ``reviewed`` or ``over`` (rolled back or replaced).
    """

    op_id: str
    decision: int
    version: str
    at: datetime
    review_by: datetime
    owners: tuple[str, ...]
    reason: str
    reviewed_by: str | None
    in_office: bool
    state: str

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        times = {"at": self.at.isoformat(), "review_by": self.review_by.isoformat(), "owners": list(self.owners)}
        return asdict(self) | times


def emergencies(store: Store, usecase: str, model: str, now: datetime) -> list[Emergency]:
    """Every emergency promotion of a model, oldest first, at machine time ``now``."""
    reviewer_by_operation = {
        str(d.payload["op_id"]): str(d.payload["owner"]) for d in store.decisions.list(usecase, ("emergency.reviewed",))
    }
    champion = store.decisions.terms(model, "champion")
    entries = []
    for line in store.decisions.list(usecase, ("promotion.planned",), limit=None):
        facts = line.payload.get("emergency")
        if facts is None or line.payload.get("model") != model:
            continue
        operation = store.journal.get(str(line.payload["op_id"]))
        if operation is None or operation.state == "ABORTED":
            continue
        is_champion = bool(champion) and champion[-1][0] == operation.to_version
        reviewer, due = reviewer_by_operation.get(operation.op_id), datetime.fromisoformat(facts["review_by"])
        state = "reviewed" if reviewer else "over" if not is_champion else "overdue" if now >= due else "open"
        entries.append(
            Emergency(
                operation.op_id, line.seq, operation.to_version, line.at, due, tuple(facts["owners"]),
                str(facts["reason"]), reviewer, is_champion, state,
            )
        )  # fmt: skip
    return entries


def review_emergency(store: Store, usecase: str, model: str, op_id: str, key: Key, request: Request) -> Decision:
    """Note that a third person has looked at an emergency promotion.

    Raises:
        ReleaseError: there is no such open emergency, no reason was given (it is the note), or the key belongs to
            one of the two who ordered it.
    """
    _require_reason(request.reason)
    for emergency in emergencies(store, usecase, model, request.at):
        if emergency.op_id.startswith(op_id) and emergency.state in ("open", "overdue"):
            if _person(key.owner) in {_person(owner) for owner in emergency.owners}:
                raise ReleaseError(f"{key.owner} ordered this promotion; somebody else must review it")
            payload: dict[str, Any] = {"model": model, "op_id": emergency.op_id, "version": emergency.version}
            payload |= {"note": request.reason, "owner": key.owner, "key": key.id}
            payload["late"] = emergency.state == "overdue"
            return store.decisions.append(usecase, "emergency.reviewed", payload, request.actor, request.at)
    raise ReleaseError(f"no emergency promotion {op_id!r} waits for a review")


def _require_two_people(keys: TwoKeys) -> None:
    if _person(keys.first.owner) == _person(keys.second.owner):
        raise ReleaseError(f"both keys belong to {keys.first.owner}; a second person must agree")


def _person(owner: str) -> str:
    return owner.strip().casefold()


def _require_reason(reason: str) -> None:
    if not reason.strip():
        raise ReleaseError("a reason is required; say in a few words why")


def _champion_version(store: Store, model: str) -> str:
    pin = store.orders.standing(model).pin
    terms = store.decisions.terms(model, "champion")
    version = terms[-1][0] if terms else None
    if pin is not None:
        version = None if pin.version == EXTERNAL else pin.version
    if version is None:
        raise ReleaseError(f"no version of {model} is active by the journal")
    return version
