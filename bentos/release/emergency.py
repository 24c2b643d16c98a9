"""Break-glass: what two people may do together without evidence, for a while, on the record.

Two keys of scope ``approve`` with different owners are needed. A threshold order ends by itself at its
time, in every serving process. An emergency promotion ends at its time too, unless a third person has
reviewed it by then: the scribe's process rolls it back (:mod:`bentos.release.expiry`).

Neither has a verdict: a verdict is what evidence says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from bentos.errors import ReleaseError
from bentos.keys import Key, KeyRing
from bentos.promotion.carry_out import carry_out
from bentos.promotion.comparison_plans import end_comparisons
from bentos.promotion.evidence import ORDER
from bentos.promotion.promote import refuse_barred
from bentos.promotion.request import Outcome, Request, desk_of, said
from bentos.promotion.state_machine import Check
from bentos.registry.ports import ModelRef, ModelRegistry
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
    found = TwoKeys(*(ring.check(token.strip(), "approve", now) for token in tokens))
    _different(found)
    return found


def order_threshold(
    store: Store,
    usecase: UseCase,
    model: str,
    value: float,
    until: datetime,
    keys: TwoKeys,
    *,
    actor: str,
    reason: str,
    now: datetime,
) -> Decision:
    """Replace the threshold of the version in office until a moment; every replica follows within seconds.

    ``now`` and ``until`` are machine time. The order is bound to the version: another one that takes
    office meanwhile answers by its own threshold.

    Raises:
        ReleaseError: the value, the time or the reason cannot be, or nobody is in office.
    """
    _reasoned(reason)
    if not (math.isfinite(value) and 0.0 <= value <= 1.0):
        raise ReleaseError(f"a threshold lies between 0 and 1; {value} does not")
    if not now < until <= now + LONGEST_ORDER:
        raise ReleaseError(f"the order must end after now and within {LONGEST_ORDER.days} days; {until} does not")
    version = _in_office(store, model)
    payload = {"model": model, "version": version, "value": value, "until": until.isoformat(), "reason": reason}
    payload |= {EVIDENCE_BASED: False, **keys.to_json()}
    return store.decisions.append(usecase.name, "threshold.override", payload, actor, now)


def lift_threshold(
    store: Store, usecase: UseCase, model: str, key: Key, *, actor: str, reason: str, now: datetime
) -> Decision:
    """End a threshold order before its time; one person may.

    Raises:
        ReleaseError: none is in force, or no reason was given.
    """
    _reasoned(reason)
    order = store.orders.standing(model).threshold
    if order is None or order.until <= now:
        raise ReleaseError(f"no threshold order is in force for {model}")
    payload = {"model": model, "version": order.version, "order": order.decision, "reason": reason}
    return store.decisions.append(
        usecase.name, "threshold.lifted", payload | {"owners": [key.owner], "keys": [key.id]}, actor, now
    )


def promote_emergency(
    registry: ModelRegistry,
    store: Store,
    to: ModelRef,
    keys: TwoKeys,
    *,
    usecase: UseCase,
    actor: str,
    reason: str,
    now: datetime,
    until: datetime | None = None,
    preview: bool = False,
    wait_seconds: float = 0.0,
    check: Check | None = None,
) -> Outcome:
    """Put a version into office without a verdict, at any hour, until a moment of machine time.

    It must hold ``@challenger`` or ``@candidate``, so its gates were passed. The order of the two people enters the
    chain first, and the promotion rests on it. The steps, the journal and the way back are those of every promotion.
    ``now`` is machine time; ``until`` is when it ends unless a third person has reviewed it, at most
    ``[promotion] emergency_review`` from now, which is also the default.

    Raises:
        ReleaseError: it holds neither role, is barred, the end cannot be, or no reason was given.
    """
    _reasoned(reason)
    _different(keys)
    desk = desk_of(registry, store, usecase, to.name, check, wait_seconds)
    here = desk.holder("champion")
    review_by = review_time(usecase, now, until)
    facts = {EVIDENCE_BASED: False, **keys.to_json(), "reason": reason, "review_by": review_by.isoformat()}
    evidence = sha256_hex(canonical_json({**facts, "to": to.label, "from": here, "at": now.isoformat()}))
    wanted = Request("promotion", here, to.version, evidence, actor, f"EMERGENCY: {reason}", now)
    order = {"model": to.name, "version": to.version, "from_version": here, "digest": evidence, **facts}

    def look() -> None:
        if to.version not in (desk.holder("challenger"), desk.holder("candidate")):
            raise ReleaseError(f"version {to.version} is neither @challenger nor @candidate: its gates are not known")
        if here == to.version:
            raise ReleaseError(f"{said(here)} is in office already")
        refuse_barred(store, to)
        if not preview:
            store.decisions.append(usecase.name, ORDER, order, actor, now)

    done = carry_out(desk, wanted, look, preview, {"emergency": facts})
    if not preview:
        end_comparisons(store, usecase.name, to.label, None, now, actor)
    return done


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
        version: what was put into office.
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
    reviewed = {
        str(d.payload["op_id"]): str(d.payload["owner"]) for d in store.decisions.list(usecase, ("emergency.reviewed",))
    }
    champion = store.decisions.terms(model, "champion")
    found = []
    for planned in store.decisions.list(usecase, ("promotion.planned",), limit=None):
        facts = planned.payload.get("emergency")
        if facts is None or planned.payload.get("model") != model:
            continue
        operation = store.journal.get(str(planned.payload["op_id"]))
        if operation is None or operation.state == "ABORTED":
            continue
        here = bool(champion) and champion[-1][0] == operation.to_version
        by, due = reviewed.get(operation.op_id), datetime.fromisoformat(facts["review_by"])
        state = "reviewed" if by else "over" if not here else "overdue" if now >= due else "open"
        found.append(
            Emergency(
                operation.op_id, planned.seq, operation.to_version, planned.at, due, tuple(facts["owners"]),
                str(facts["reason"]), by, here, state,
            )
        )  # fmt: skip
    return found


def review_emergency(
    store: Store, usecase: str, model: str, op_id: str, key: Key, *, actor: str, note: str, now: datetime
) -> Decision:
    """Note that a third person has looked at an emergency promotion.

    Raises:
        ReleaseError: there is no such open emergency, no note was written, or the key belongs to one of
            the two who ordered it.
    """
    _reasoned(note)
    for one in emergencies(store, usecase, model, now):
        if one.op_id.startswith(op_id) and one.state in ("open", "overdue"):
            if _person(key.owner) in {_person(owner) for owner in one.owners}:
                raise ReleaseError(f"{key.owner} ordered this promotion; somebody else must review it")
            payload: dict[str, Any] = {"model": model, "op_id": one.op_id, "version": one.version, "note": note}
            payload |= {"owner": key.owner, "key": key.id, "late": one.state == "overdue"}
            return store.decisions.append(usecase, "emergency.reviewed", payload, actor, now)
    raise ReleaseError(f"no emergency promotion {op_id!r} waits for a review")


def _different(keys: TwoKeys) -> None:
    if _person(keys.first.owner) == _person(keys.second.owner):
        raise ReleaseError(f"both keys belong to {keys.first.owner}; a second person must agree")


def _person(owner: str) -> str:
    return owner.strip().casefold()


def _reasoned(reason: str) -> None:
    if not reason.strip():
        raise ReleaseError("a reason is required; say in a few words why")


def _in_office(store: Store, model: str) -> str:
    pin = store.orders.standing(model).pin
    terms = store.decisions.terms(model, "champion")
    version = terms[-1][0] if terms else None
    if pin is not None:
        version = None if pin.version == EXTERNAL else pin.version
    if version is None:
        raise ReleaseError(f"no version of {model} is in office by the journal")
    return version
