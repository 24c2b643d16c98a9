"""Who holds office: promote, roll back, install the first, appoint a challenger. No Prefect needed.

Every change passes through the journal (:mod:`monitoring.store.decisions.journal`) under a lease, and can be
resumed by whoever comes next. A promotion takes a :class:`~monitoring.core.verdict.Verdict` and nothing
else. At 3 a.m.: ``python -m bentos.release status`` and ``python -m bentos.release rollback``.

After a rollback ``@previous`` is vacant and the version that was rolled back from is barred: running
the command twice cannot bring it back, nor walk further into the past by accident.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime

from bentos.errors import NothingToRollBack, PromotionHeld, RegistryUnavailable, ReleaseError, StaleDecision
from bentos.promotion.appointments import appoint, dismiss, lift_bar, take_turn
from bentos.promotion.carry_out import carry_out
from bentos.promotion.change_freeze import why_held_now
from bentos.promotion.comparison_plans import end_comparisons
from bentos.promotion.evidence import require_grounds
from bentos.promotion.external_return import finish_return, replaced_external, return_to_external
from bentos.promotion.reconcile import pin_previous, reconcile
from bentos.promotion.recovery import resume_all
from bentos.promotion.request import Outcome, Request, default_actor, desk_of, held_lease, said, verified_apart
from bentos.promotion.state_machine import LEASE_SECONDS, Check, Desk
from bentos.registry.ports import ModelRef, ModelRegistry
from bentos.usecase.definition import UseCase
from monitoring.core.verdict import Verdict
from monitoring.store import Operation, Store

log = logging.getLogger("incumbent.release")

__all__ = [
    "Outcome",
    "appoint",
    "default_actor",
    "dismiss",
    "install_first",
    "lift_bar",
    "promote",
    "reconcile",
    "recover",
    "rollback",
    "take_turn",
    "verified_apart",
]


def promote(
    registry: ModelRegistry,
    store: Store,
    verdict: Verdict,
    *,
    usecase: UseCase,
    actor: str,
    now: datetime,
    reason: str = "",
    preview: bool = False,
    wait_seconds: float = 0.0,
    check: Check | None = None,
) -> Outcome:
    """Put the challenger of a verdict into office.

    Args:
        registry, store: where roles and journal are.
        verdict: of a comparison, with the outcome ``promote``; where the use case lets models take office
            after their gates, also a ``pass`` of gates that measured the champion on the same rows.
        usecase: whose input schema the new champion must have.
        actor: who asked.
        now: business time of the request.
        reason: why, in the actor's words; none takes the verdict's first reason.
        preview: look at everything, change nothing.
        wait_seconds: longest wait for the replicas to serve the new champion.
        check: looks at the version's files; none loads it in a process apart.

    Raises:
        ReleaseError: the verdict does not promote, the version is barred or must not serve, or another
            release is under way.
        PromotionHeld: hours, weekday or a freeze of the use case hold promotions now.
        StaleDecision: champion or challenger are not the ones that were compared.
        PromotionUnproven: the chain holds no such verdict, or a later word, its age or an earlier use takes it away.
        RegistryUnavailable, StoreUnavailable: ask again; what was begun is resumed.
    """
    _promotes(verdict, usecase)
    to = ModelRef.parse(verdict.challenger)
    champion = None if verdict.champion is None else ModelRef.parse(verdict.champion)
    # An external incumbent is no version of this model: while it is in office the role is vacant.
    from_version = champion.version if champion is not None and champion.name == to.name else None
    if from_version == to.version:
        raise ReleaseError(f"the verdict compares version {to.version} with itself, which promotes nobody")
    desk = desk_of(registry, store, usecase, to.name, check, wait_seconds)
    wanted = Request(
        "promotion", from_version, to.version, verdict.digest, actor, reason or "; ".join(verdict.reasons[:1]), now
    )

    def look() -> None:
        _matches(desk, from_version, to.version)
        refuse_barred(store, to)
        if usecase.promotion.approval == "required" and not preview:
            require_approved(store, usecase, verdict)
        if (held := why_held_now(store, usecase, now)) is not None:
            raise PromotionHeld(held)
        if preview:  # else whoever plans the operation asks
            require_grounds(desk, wanted)

    done = carry_out(desk, wanted, look, preview, {"verdict": verdict.to_json()})
    if not preview:
        end_comparisons(store, usecase.name, to.label, verdict.digest, now, actor)
        _next_in_turn(registry, store, to.name, usecase, actor, now, check)
    return done


def _next_in_turn(
    registry: ModelRegistry, store: Store, model: str, usecase: UseCase, actor: str, now: datetime, check: Check | None
) -> None:
    """The candidate enters shadow. The promotion is done whatever becomes of it."""
    try:
        take_turn(registry, store, model, usecase=usecase, actor=actor, now=now, check=check)
    except (ReleaseError, RegistryUnavailable) as exc:
        log.warning("the candidate has not taken its turn yet: %s", exc)


def rollback(
    registry: ModelRegistry,
    store: Store,
    model: str,
    usecase: UseCase,
    actor: str,
    reason: str,
    now: datetime,
    *,
    preview: bool = False,
    wait_seconds: float = 0.0,
    patience: float = LEASE_SECONDS + 5,
    check: Check | None = None,
    still: Callable[[], None] = lambda: None,
) -> Outcome:
    """Put ``@previous``, or the external incumbent that was replaced, back into office; bar who leaves it.

    Args:
        registry, store: where roles and journal are.
        model: name in the registry, for example ``dev-fraud``.
        usecase: whose input schema the restored champion must have.
        actor: who asked.
        reason: why; it is required.
        now: business time of the request.
        preview: look at everything, change nothing.
        wait_seconds: longest wait for the replicas to serve the restored champion.
        patience: longest wait for a release that is under way, or whose process died.
        check: looks at the version's files; none loads it in a process apart.
        still: raises ``ReleaseError`` where the rollback is not due any more; called under the lease. For processes
            that decide by themselves, and may have waited while others acted.

    Raises:
        NothingToRollBack: ``@previous`` is vacant.
        ReleaseError: no reason was given, or the old version must not serve.
        StoreUnavailable: ask again; what was begun is resumed.

    With a registry that does not answer, the journal's ``@previous`` is pinned on every replica instead
    (state ``PINNED``), and the aliases follow later; see :mod:`bentos.promotion.reconcile`.
    """
    if not reason.strip():
        raise ReleaseError("a rollback needs a reason; say in a few words what went wrong")
    desk = desk_of(registry, store, usecase, model, check, wait_seconds)
    try:
        if not preview and store.orders.standing(model).pin is not None:
            reconcile(registry, store, model, usecase=usecase, actor=actor, now=now, reason=reason)
        if not preview and store.journal.unfinished(model):
            # Whoever asks for the way back must not get the promotion that died before it.
            with held_lease(desk, actor, patience) as lease:
                resume_all(desk, lease, now, forward=False)
        if replaced_external(desk, usecase):
            return return_to_external(desk, usecase, actor, reason, now, preview, patience, still)
        wanted = _rollback_request(desk, actor, reason, now)

        def look() -> None:
            still()
            if _rollback_request(desk, actor, reason, now) != wanted:
                raise StaleDecision("the roles changed while the rollback waited; look at the status and ask again")

        return carry_out(desk, wanted, look, preview, {}, patience)
    except RegistryUnavailable:
        return pin_previous(desk, usecase, actor, reason, now, preview, patience, still)


def install_first(
    registry: ModelRegistry,
    store: Store,
    verdict: Verdict,
    *,
    usecase: UseCase,
    actor: str,
    now: datetime,
    preview: bool = False,
    wait_seconds: float = 0.0,
    check: Check | None = None,
) -> Outcome:
    """Put the first model into office, on the strength of its gates alone.

    Raises:
        ReleaseError: the gates did not pass, or the use case declares an external incumbent.
        StaleDecision: somebody is in office already.
    """
    if verdict.kind != "gate" or verdict.outcome != "pass":
        raise ReleaseError(f"the gates say {verdict.outcome!r}: only a model that passes takes office")
    if usecase.incumbent is not None:
        raise ReleaseError("an external incumbent is in office; the model must be compared with it first")
    to = ModelRef.parse(verdict.challenger)
    desk = desk_of(registry, store, usecase, to.name, check, wait_seconds)
    wanted = Request("installation", None, to.version, verdict.digest, actor, "the first model that passed", now)

    def look() -> None:
        if (here := desk.holder("champion")) is not None:
            raise StaleDecision(f"version {here} is in office already; a later model must be compared with it")

    return carry_out(desk, wanted, look, preview, {"verdict": verdict.to_json()})


def recover(
    registry: ModelRegistry,
    store: Store,
    model: str,
    *,
    usecase: UseCase,
    actor: str,
    now: datetime,
    check: Check | None = None,
) -> list[Operation]:
    """Bring operations that a dead process left behind to an end; returns them as they ended.

    Raises:
        ReleaseError: another release is under way.
    """
    desk = desk_of(registry, store, usecase, model, check, 0.0)
    with held_lease(desk, actor, 0.0) as lease:
        ended = resume_all(desk, lease, now)
        finish_return(desk, lease)
        return ended


def _promotes(verdict: Verdict, usecase: UseCase) -> None:
    if not isinstance(verdict, Verdict):
        raise ReleaseError(f"a promotion needs a Verdict, not a {type(verdict).__name__}")
    if verdict.kind == "gate" and usecase.promotion.takes_office == "after_gates":
        if verdict.outcome == "pass" and verdict.champion is not None:
            return
        raise ReleaseError(f"the gates say {verdict.outcome!r} of a model beside {verdict.champion or 'no champion'}")
    if verdict.kind != "comparison" or not verdict.promotes:
        why = verdict.reasons[0] if verdict.reasons else "it names no reason"
        raise ReleaseError(f"the verdict says {verdict.outcome!r}, which promotes nobody: {why}")


def require_approved(store: Store, usecase: UseCase, verdict: Verdict) -> None:
    """Raise ``ReleaseError`` unless a person approved this very verdict."""
    from bentos.promotion.approval import approved_by

    if approved_by(store, usecase.name, verdict) is None:
        raise ReleaseError("this use case requires a person's approval, and nobody has approved this verdict")


def refuse_barred(store: Store, to: ModelRef) -> None:
    """Raise ``ReleaseError`` for a version that was rolled back from and has no plan opened since."""
    barred = store.decisions.barred(to.name)
    if to.version in barred:
        raise ReleaseError(
            f"version {to.version} was rolled back from ({barred[to.version]}) and is barred until a new "
            "comparison is opened for it; appoint it as challenger again, train a new version, or lift the bar "
            "with a reason"
        )


def _matches(desk: Desk, from_version: str | None, to_version: str) -> None:
    here, waiting = desk.holder("champion"), desk.holder("challenger")
    by_journal = desk.journalled("champion")
    if not desk.hand_edits and by_journal is not None and here not in (None, by_journal):
        raise StaleDecision(
            f"@champion was moved to {said(here)} by hand, while the journal says {said(by_journal)}; "
            "look into it, then run `python -m bentos.release reconcile`"
        )
    if here != from_version:
        raise StaleDecision(f"the verdict compared with {said(from_version)}, but {said(here)} is in office")
    if waiting != to_version:
        raise StaleDecision(f"the verdict is about version {to_version}, but the challenger is {said(waiting)}")


def _way_back(desk: Desk, here: str | None) -> str | None:
    """The version that ``@previous`` names; what it named before a promotion that died before its commit."""
    for left in desk.store.journal.unfinished(desk.model):
        if left.kind == "promotion" and here == left.from_version:
            return left.previous_version
    return desk.holder("previous")


def _rollback_request(desk: Desk, actor: str, reason: str, now: datetime) -> Request:
    here = desk.holder("champion")
    back = _way_back(desk, here)
    if back is None:
        raise NothingToRollBack(
            f"{desk.model} has no @previous: nothing was promoted since the last rollback or installation; "
            "a new version must pass its gates and be promoted"
        )
    if back == here:
        raise NothingToRollBack(f"@previous is version {back}, which is in office already")
    terms = desk.store.decisions.terms(desk.model, "champion")
    term = f"term:{terms[-1][2] if terms else 0}:{here}"
    return Request("rollback", here, back, term, actor, reason, now)
