"""Who is champion: promote, roll back, install the first, appoint a challenger. No Prefect needed.

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
from bentos.promotion.appointments import appoint, appoint_next_candidate, dismiss, lift_bar
from bentos.promotion.carry_out import carry_out
from bentos.promotion.change_freeze import why_held_now
from bentos.promotion.comparison_plans import end_comparisons
from bentos.promotion.evidence import require_evidence
from bentos.promotion.external_return import finish_return, replaced_external, return_to_external
from bentos.promotion.reconcile import pin_previous, reconcile
from bentos.promotion.recovery import resume_all
from bentos.promotion.request import (
    ReleaseOutcome,
    Request,
    default_actor,
    hold_lease,
    make_isolated_check,
    release_context,
    version_text,
)
from bentos.promotion.state_machine import LEASE_SECONDS, Check, ReleaseContext
from bentos.registry.ports import ModelRef, ModelRegistry
from bentos.usecase.definition import UseCase
from monitoring.core.verdict import Verdict
from monitoring.store import Operation, Store

log = logging.getLogger("incumbent.release")

__all__ = [
    "ReleaseOutcome",
    "appoint",
    "appoint_next_candidate",
    "default_actor",
    "dismiss",
    "install_first",
    "lift_bar",
    "make_isolated_check",
    "promote",
    "reconcile",
    "recover",
    "rollback",
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
) -> ReleaseOutcome:
    """Put the challenger of a verdict into the champion's role.

    Args:
        registry, store: where roles and journal are.
        verdict: of a comparison, with the outcome ``promote``; where the use case lets models become champion
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
    _require_promoting(verdict, usecase)
    challenger = ModelRef.parse(verdict.challenger)
    champion = None if verdict.champion is None else ModelRef.parse(verdict.champion)
    # An external incumbent is no version of this model: while it is active the role is vacant.
    from_version = champion.version if champion is not None and champion.name == challenger.name else None
    if from_version == challenger.version:
        raise ReleaseError(f"the verdict compares version {challenger.version} with itself, which promotes nobody")
    context = release_context(registry, store, usecase, challenger.name, check, wait_seconds)
    request = Request(
        "promotion",
        from_version,
        challenger.version,
        verdict.digest,
        actor,
        reason or "; ".join(verdict.reasons[:1]),
        now,
    )

    def precheck() -> None:
        _require_roles(context, from_version, challenger.version)
        refuse_barred(store, challenger)
        if usecase.promotion.approval == "required" and not preview:
            require_approved(store, usecase, verdict)
        if (freeze_reason := why_held_now(store, usecase, now)) is not None:
            raise PromotionHeld(freeze_reason)
        if preview:  # else whoever plans the operation asks
            require_evidence(context, request)

    outcome = carry_out(context, request, precheck, preview, {"verdict": verdict.to_json()})
    if not preview:
        end_comparisons(store, usecase.name, challenger.label, verdict.digest, now, actor)
        _appoint_waiting(registry, store, challenger.name, usecase, actor, now, check)
    return outcome


def _appoint_waiting(
    registry: ModelRegistry, store: Store, model: str, usecase: UseCase, actor: str, now: datetime, check: Check | None
) -> None:
    """The candidate enters shadow. The promotion is done whatever becomes of it."""
    try:
        appoint_next_candidate(registry, store, model, usecase=usecase, actor=actor, now=now, check=check)
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
    recheck: Callable[[], None] = lambda: None,
) -> ReleaseOutcome:
    """Put ``@previous``, or the external incumbent that was replaced, active again; bar who leaves it.

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
        recheck: raises ``ReleaseError`` where the rollback is not due any more; called under the lease. For processes
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
    context = release_context(registry, store, usecase, model, check, wait_seconds)
    try:
        if not preview and store.orders.standing(model).pin is not None:
            reconcile(registry, store, model, usecase=usecase, actor=actor, now=now, reason=reason)
        if not preview and store.journal.unfinished(model):
            # Whoever asks for the way back must not get the promotion that died before it.
            with hold_lease(context, actor, patience) as lease:
                resume_all(context, lease, now, forward=False)
        if replaced_external(context, usecase):
            return return_to_external(context, usecase, actor, reason, now, preview, patience, recheck)
        request = _rollback_request(context, actor, reason, now)

        def precheck() -> None:
            recheck()
            if _rollback_request(context, actor, reason, now) != request:
                raise StaleDecision("the roles changed while the rollback waited; look at the status and ask again")

        return carry_out(context, request, precheck, preview, {}, patience)
    except RegistryUnavailable:
        return pin_previous(context, usecase, actor, reason, now, preview, patience, recheck)


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
) -> ReleaseOutcome:
    """Put the first model into the champion's role, on the strength of its gates alone.

    Raises:
        ReleaseError: the gates did not pass, or the use case declares an external incumbent.
        StaleDecision: somebody is active already.
    """
    if verdict.kind != "gate" or verdict.outcome != "pass":
        raise ReleaseError(f"the gates say {verdict.outcome!r}: only a model that passes becomes champion")
    if usecase.incumbent is not None:
        raise ReleaseError("an external incumbent is active; the model must be compared with it first")
    ref = ModelRef.parse(verdict.challenger)
    context = release_context(registry, store, usecase, ref.name, check, wait_seconds)
    request = Request("installation", None, ref.version, verdict.digest, actor, "the first model that passed", now)

    def precheck() -> None:
        if (champion := context.holder("champion")) is not None:
            raise StaleDecision(f"version {champion} is active already; a later model must be compared with it")

    return carry_out(context, request, precheck, preview, {"verdict": verdict.to_json()})


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
    context = release_context(registry, store, usecase, model, check, 0.0)
    with hold_lease(context, actor, 0.0) as lease:
        operations = resume_all(context, lease, now)
        finish_return(context, lease)
        return operations


def _require_promoting(verdict: Verdict, usecase: UseCase) -> None:
    if not isinstance(verdict, Verdict):
        raise ReleaseError(f"a promotion needs a Verdict, not a {type(verdict).__name__}")
    if verdict.kind == "gate" and usecase.promotion.takes_office == "after_gates":
        if verdict.outcome == "pass" and verdict.champion is not None:
            return
        raise ReleaseError(f"the gates say {verdict.outcome!r} of a model beside {verdict.champion or 'no champion'}")
    if verdict.kind != "comparison" or not verdict.promotes:
        reason = verdict.reasons[0] if verdict.reasons else "it names no reason"
        raise ReleaseError(f"the verdict says {verdict.outcome!r}, which promotes nobody: {reason}")


def require_approved(store: Store, usecase: UseCase, verdict: Verdict) -> None:
    """Raise ``ReleaseError`` unless a person approved this very verdict."""
    from bentos.promotion.approval import approved_by

    if approved_by(store, usecase.name, verdict) is None:
        raise ReleaseError("this use case requires a person's approval, and nobody has approved this verdict")


def refuse_barred(store: Store, ref: ModelRef) -> None:
    """Raise ``ReleaseError`` for a version that was rolled back from and has no plan opened since."""
    barred = store.decisions.barred(ref.name)
    if ref.version in barred:
        raise ReleaseError(
            f"version {ref.version} was rolled back from ({barred[ref.version]}) and is barred until a new "
            "comparison is opened for it; appoint it as challenger again, train a new version, or lift the bar "
            "with a reason"
        )


def _require_roles(context: ReleaseContext, from_version: str | None, to_version: str) -> None:
    current, challenger = context.holder("champion"), context.holder("challenger")
    expected = context.journalled("champion")
    if not context.hand_edits and expected is not None and current not in (None, expected):
        raise StaleDecision(
            f"@champion was moved to {version_text(current)} by hand, while the journal says {version_text(expected)}; "
            "look into it, then run `python -m bentos.release reconcile`"
        )
    if current != from_version:
        raise StaleDecision(
            f"the verdict compared with {version_text(from_version)}, but {version_text(current)} is active"
        )
    if challenger != to_version:
        raise StaleDecision(
            f"the verdict is about version {to_version}, but the challenger is {version_text(challenger)}"
        )


def _way_back(context: ReleaseContext, champion: str | None) -> str | None:
    """The version that ``@previous`` names; what it named before a promotion that died before its commit."""
    for operation in context.store.journal.unfinished(context.model):
        if operation.kind == "promotion" and champion == operation.from_version:
            return operation.previous_version
    return context.holder("previous")


def _rollback_request(context: ReleaseContext, actor: str, reason: str, now: datetime) -> Request:
    champion = context.holder("champion")
    previous = _way_back(context, champion)
    if previous is None:
        raise NothingToRollBack(
            f"{context.model} has no @previous: nothing was promoted since the last rollback or installation; "
            "a new version must pass its gates and be promoted"
        )
    if previous == champion:
        raise NothingToRollBack(f"@previous is version {previous}, which is active already")
    terms = context.store.decisions.terms(context.model, "champion")
    evidence = f"term:{terms[-1][2] if terms else 0}:{champion}"
    return Request("rollback", champion, previous, evidence, actor, reason, now)
