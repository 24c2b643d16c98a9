"""Changes of roles as a test asks for them: registry, store and request by name, the model from the version."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from bentos.promotion import promote as release
from bentos.promotion.approval import ApprovalRequest, FormAnswer
from bentos.promotion.approval import redeem as redeem_form
from bentos.promotion.context import ReleaseContext
from bentos.promotion.promote import ReleaseOutcome, Request
from bentos.promotion.reconcile import reconcile_quietly as reconcile_context_quietly
from bentos.registry.ports import ModelRef
from bentos.release import emergency, expiry
from bentos.release.emergency import TwoKeys
from bentos.usecase.definition import UseCase
from monitoring.core.verdict import Verdict
from monitoring.store import Decision, Operation, Store


def _context(registry: Any, store: Store, model: str, named: dict[str, Any]) -> ReleaseContext:
    """The context of a call; takes what belongs to it out of the named arguments."""
    check, wait_seconds = named.pop("check", None), named.pop("wait_seconds", 0.0)
    return ReleaseContext(registry, store, named.pop("usecase"), model, check, wait_seconds)


def _request(named: dict[str, Any]) -> Request:
    """The request of a call; takes what belongs to it out of the named arguments."""
    return Request(named.pop("actor"), named.pop("reason", ""), named.pop("now"), named.pop("preview", False))


def promote(registry: Any, store: Store, verdict: Verdict, **named: Any) -> ReleaseOutcome:
    model = ModelRef.parse(verdict.challenger).name if isinstance(verdict, Verdict) else "dev-fraud"
    context, request = _context(registry, store, model, named), _request(named)
    return release.promote(context, verdict, request, **named)


def install_first(registry: Any, store: Store, verdict: Verdict, **named: Any) -> ReleaseOutcome:
    context = _context(registry, store, ModelRef.parse(verdict.challenger).name, named)
    return release.install_first(context, verdict, _request(named), **named)


def appoint(registry: Any, store: Store, ref: ModelRef, role: Any, **named: Any) -> Decision | None:
    context, request = _context(registry, store, ref.name, named), _request(named)
    return release.appoint(context, ref.version, role, request, **named)


def dismiss(registry: Any, store: Store, model: str, role: Any, **named: Any) -> Decision | None:
    return release.dismiss(_context(registry, store, model, named), role, _request(named), **named)


def appoint_next_candidate(registry: Any, store: Store, model: str, **named: Any) -> Decision | None:
    return release.appoint_next_candidate(_context(registry, store, model, named), _request(named), **named)


def rollback(
    registry: Any, store: Store, model: str, usecase: UseCase, actor: str, reason: str, now: datetime, **named: Any
) -> ReleaseOutcome:
    named |= {"usecase": usecase, "actor": actor, "reason": reason, "now": now}
    context, request = _context(registry, store, model, named), _request(named)
    return release.rollback(context, request, **named)


def recover(registry: Any, store: Store, model: str, **named: Any) -> list[Operation]:
    return release.recover(_context(registry, store, model, named), named.pop("actor"), named.pop("now"), **named)


def reconcile(registry: Any, store: Store, model: str, **named: Any) -> list[str]:
    return release.reconcile(_context(registry, store, model, named), _request(named), **named)


def reconcile_quietly(registry: Any, store: Store, model: str, usecase: UseCase, now: datetime) -> bool:
    return reconcile_context_quietly(ReleaseContext(registry, store, usecase, model), now)


def promote_emergency(registry: Any, store: Store, ref: ModelRef, keys: TwoKeys, **named: Any) -> ReleaseOutcome:
    context, request = _context(registry, store, ref.name, named), _request(named)
    return emergency.promote_emergency(context, ref.version, keys, request, **named)


def end_overdue(registry: Any, store: Store, model: str, **named: Any) -> ReleaseOutcome | None:
    return expiry.end_overdue(_context(registry, store, model, named), named.pop("now"), **named)


def order_threshold(
    store: Store, usecase: UseCase, model: str, value: float, until: datetime, keys: TwoKeys, **named: Any
) -> Decision:
    return emergency.order_threshold(store, usecase, model, value, until, keys, _request(named))


def lift_threshold(store: Store, usecase: UseCase, model: str, key: Any, **named: Any) -> Decision:
    return emergency.lift_threshold(store, usecase, model, key, _request(named))


def review_emergency(store: Store, usecase: str, model: str, op_id: str, key: Any, **named: Any) -> Decision:
    request = Request(named["actor"], named["note"], named["now"])
    return emergency.review_emergency(store, usecase, model, op_id, key, request)


def lift_bar(store: Store, model: str, version: str, **named: Any) -> None:
    release.lift_bar(store, named.pop("usecase"), model, version, _request(named))


def redeem(store: Store, usecase: str, request: ApprovalRequest, *form: Any) -> Decision:
    *fields, now = form
    return redeem_form(store, usecase, request, FormAnswer(*fields), now)
