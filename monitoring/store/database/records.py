"""What travels through the spool into the log, and small values that the store hands out.

Records are msgpack arrays (``array_like``): append a field with a default, never reorder. All
times are microseconds since 1970 UTC. A model is named by its *label*, ``name/version``.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

import msgspec

Origin = Literal["live", "history", "event", "late"]
"""``live``: answered by us; ``history``: imported; ``event``: sent not to be scored; ``late``: a client's fallback."""

ModelAction = Literal["block", "let_through", "explore"]
"""What an answer asks for: ``explore`` lets a flagged event through to learn what it was."""
RealAction = Literal["block", "let_through"]
ActedBy = Literal["model", "rule", "analyst", "fallback"]
ACTIONS: Final[tuple[RealAction, ...]] = get_args(RealAction)
IN_FUTURE: Final = "in_future"
"""Reason of a row whose time lies beyond what the declared clock allows."""
ACTORS: Final[tuple[ActedBy, ...]] = get_args(ActedBy)


class ScoreRecord(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One event, and for ``live`` ones the answer that was given.

    Attributes:
        usecase: name of the use case.
        event_id: names the event; the log keeps one row for each.
        event_time: business time of the event.
        received_at: machine time of arrival.
        origin: how it came here.
        body: JSON object of the declared columns.
        plan_id: fingerprint of the union plan whose columns ``features`` holds.
        features: float32 little-endian, in the order of that plan.
        model, version, alias: who answered, and under which role.
        contract: contract digest of that version.
        raw_score: booster output, 0..1.
        score: calibrated score, 0..1.
        threshold: alerts are scores at or above it.
        decision: whether it was flagged.
        propensity: chance that the event was let through where an exploration share is declared.
        arm: name of the arm that the event was assigned to, while a routing policy is in effect; ``alias``
            says which role answered, which is another one only where the arm's model failed at the event.
        routing: short digest of that policy.
        action: what the answer asked for, where the use case declares an intervention.
    """

    usecase: str
    event_id: str
    event_time: int
    received_at: int
    origin: Origin
    body: bytes
    plan_id: str | None = None
    features: bytes | None = None
    model: str | None = None
    version: str | None = None
    alias: str | None = None
    contract: str | None = None
    raw_score: float | None = None
    score: float | None = None
    threshold: float | None = None
    decision: bool | None = None
    propensity: float | None = None
    arm: str | None = None
    routing: str | None = None
    action: ModelAction | None = None


class ActionRecord(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What was really done with an event at ``taken_at``, and by whom."""

    usecase: str
    event_id: str
    action: RealAction
    by: ActedBy
    taken_at: int
    received_at: int


class LabelRecord(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One statement by one source about one event: ``y`` is 1 (positive) or 0, known since ``observed_at``."""

    usecase: str
    event_id: str
    y: int
    observed_at: int
    source: str
    received_at: int


class RefusedRecord(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A row that was refused as a whole and goes into quarantine: an event, a label or an action, as it was sent.

    ``reason`` is :data:`IN_FUTURE`; ``time`` is what is wrong with it, microseconds since 1970.
    """

    usecase: str
    kind: str
    reason: str
    time: int
    received_at: int
    body: bytes


class PlanRecord(msgspec.Struct, array_like=True, frozen=True):
    """Names of the columns of every feature blob that carries ``plan_id``."""

    plan_id: str
    names: tuple[str, ...]


class ShadowRecord(msgspec.Struct, array_like=True, frozen=True):
    """What a model in shadow said about an event, or the ``error`` that it gave instead."""

    usecase: str
    event_id: str
    model: str
    version: str
    role: str
    raw_score: float | None
    score: float | None
    threshold: float | None
    decision: bool | None
    error: str | None
    scored_at: int


class StoredEvent(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One logged event as the window state needs it; the answer's fields are ``None`` for unscored ones."""

    event_id: str
    event_time: int
    received_at: int
    origin: Origin
    body: bytes
    score: float | None
    threshold: float | None
    decision: bool | None
    model: str | None
    version: str | None
    alias: str | None
    action: str | None = None


class StoredLabel(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One label revision with its place in the order of arrival."""

    label_id: int
    event_id: str
    y: int
    observed_at: int
    source: str
    received_at: int


class AppendResult(msgspec.Struct, frozen=True):
    """``stored`` rows are new; ``duplicates`` found their event id in the log already.

    ``replaced`` of the duplicates brought the answer to an event without one and took its place.
    """

    stored: int
    duplicates: int
    replaced: int = 0


class LabelResult(msgspec.Struct, frozen=True):
    """What became of a batch of labels.

    Attributes:
        stored: new revisions.
        duplicates: revisions that were known word for word.
        conflicts: events of the batch about which one source now says both things (kept, excluded).
        parked: events of the batch that the log does not hold (their labels count once they arrive).
    """

    stored: int
    duplicates: int
    conflicts: int
    parked: int


def model_label(name: str, version: str) -> str:
    """``dev-fraud`` and ``3`` give ``dev-fraud/3``."""
    return f"{name}/{version}"


def split_label(label: str) -> tuple[str, str]:
    """``dev-fraud/3`` gives (``dev-fraud``, ``3``).

    Raises:
        ValueError: for a text without a name and a version.
    """
    name, _, version = label.rpartition("/")
    if not name or not version:
        raise ValueError(f"a model label is name/version, for example 'dev-fraud/3'; found {label!r}")
    return name, version
