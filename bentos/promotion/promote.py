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
from dataclasses import replace
from datetime import datetime

from bentos.errors import NothingToRollBack, RegistryUnavailable, ReleaseError, StaleDecision
from bentos.promotion.appointments import appoint, appoint_next_candidate, dismiss, lift_bar
from bentos.promotion.carry_out import carry_out
from bentos.promotion.comparison_plans import end_comparisons
from bentos.promotion.context import ReleaseContext, make_isolated_check
from bentos.promotion.external_return import finish_return, replaced_external, return_to_external
from bentos.promotion.preconditions import Precondition, of_promotion
from bentos.promotion.reconcile import pin_previous, reconcile
from bentos.promotion.recovery import resume_all
from bentos.promotion.request import PlannedChange, ReleaseOutcome, Request, default_actor, hold_lease
from bentos.promotion.state_machine import LEASE_SECONDS
from bentos.registry.ports import ModelRef
from bentos.usecase.definition import UseCase
from monitoring.core.verdict import Verdict
from monitoring.store import Operation

log = logging.getLogger("incumbent.release")

__all__ = [
    "ReleaseContext",
    "ReleaseOutcome",
    "Request",
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


def promote(context: ReleaseContext, verdict: Verdict, request: Request) -> ReleaseOutcome:
    """Put the challenger of a verdict into the champion's role.

    Args:
        context: where roles and journal are, and whose input schema the new champion must have.
        verdict: of a comparison, with the outcome ``promote``; where the use case lets models become champion
            after their gates, also a ``pass`` of gates that measured the champion on the same rows.
        request: who asks; without a reason the verdict's first one counts.

    Raises:
        ReleaseError: the verdict does not promote, the version is barred or must not serve, or another
            release is under way.
        PromotionHeld: hours, weekday or a freeze of the use case hold promotions now.
        StaleDecision: champion or challenger are not the ones that were compared.
        PromotionUnproven: the chain holds no such verdict, or a later word, its age or an earlier use takes it away.
        RegistryUnavailable, StoreUnavailable: ask again; what was begun is resumed.
    """
    _require_promoting(verdict, context.usecase)
    challenger = _version_of(context, verdict)
    champion = None if verdict.champion is None else ModelRef.parse(verdict.champion)
    # An external incumbent is no version of this model: while it is active the role is vacant.
    from_version = champion.version if champion is not None and champion.name == challenger.name else None
    if from_version == challenger.version:
        raise ReleaseError(f"the verdict compares version {challenger.version} with itself, which promotes nobody")
    request = replace(request, reason=request.reason or "; ".join(verdict.reasons[:1]))
    change = PlannedChange("promotion", from_version, challenger.version, verdict.digest)
    preconditions = of_promotion(context, request, change, verdict)
    outcome = carry_out(context, request, change, preconditions, {"verdict": verdict.to_json()})
    if not request.preview:
        end_comparisons(
            context.store, context.usecase.name, challenger.label, verdict.digest, request.at, request.actor
        )
        _appoint_waiting(context, request)
    return outcome


def _appoint_waiting(context: ReleaseContext, request: Request) -> None:
    """The candidate enters shadow. The promotion is done whatever becomes of it."""
    try:
        appoint_next_candidate(context, request)
    except (ReleaseError, RegistryUnavailable) as exc:
        log.warning("the candidate has not taken its turn yet: %s", exc)


def rollback(
    context: ReleaseContext,
    request: Request,
    *,
    patience: float = LEASE_SECONDS + 5,
    recheck: Callable[[], None] = lambda: None,
) -> ReleaseOutcome:
    """Make ``@previous``, or the external incumbent that was replaced, active again; bar who leaves it.

    Args:
        context: where roles and journal are, and whose input schema the restored champion must have.
        request: who asks, and why; a reason is required.
        patience: longest wait for a release that is under way, or whose process died.
        recheck: raises ``ReleaseError`` where the rollback is not due any more; called under the lease. For processes
            that decide by themselves, and may have waited while others acted.

    Raises:
        NothingToRollBack: ``@previous`` is vacant.
        ReleaseError: no reason was given, or the old version must not serve.
        StoreUnavailable: ask again; what was begun is resumed.

    With a registry that does not answer, the journal's ``@previous`` is pinned on every replica instead
    (state ``PINNED``), and the aliases follow later; see :mod:`bentos.promotion.reconcile`.
    """
    if not request.reason.strip():
        raise ReleaseError("a rollback needs a reason; say in a few words what went wrong")
    try:
        if not request.preview:
            _end_unfinished(context, request, patience)
        if replaced_external(context):
            return return_to_external(context, request, patience, recheck)
        change = _planned_rollback(context)

        def require_unchanged() -> None:
            if _planned_rollback(context) != change:
                raise StaleDecision("the roles changed while the rollback waited; look at the status and ask again")

        preconditions = (Precondition("still due", recheck), Precondition("roles as planned", require_unchanged))
        return carry_out(context, request, change, preconditions, {}, patience)
    except RegistryUnavailable:
        return pin_previous(context, request, patience, recheck)


def _end_unfinished(context: ReleaseContext, request: Request, patience: float) -> None:
    """End a pin and what was cut short: whoever asks for the way back must not get the promotion that died before."""
    if context.store.orders.standing(context.model).pin is not None:
        reconcile(context, request)
    if context.store.journal.unfinished(context.model):
        with hold_lease(context, request.actor, patience) as lease:
            resume_all(context, lease, request.at, forward=False)


def install_first(context: ReleaseContext, verdict: Verdict, request: Request) -> ReleaseOutcome:
    """Put the first model into the champion's role, on the strength of its gates alone.

    Raises:
        ReleaseError: the gates did not pass, or the use case declares an external incumbent.
        StaleDecision: somebody is active already.
    """
    if verdict.kind != "gate" or verdict.outcome != "pass":
        raise ReleaseError(f"the gates say {verdict.outcome!r}: only a model that passes becomes champion")
    if context.usecase.incumbent is not None:
        raise ReleaseError("an external incumbent is active; the model must be compared with it first")
    change = PlannedChange("installation", None, _version_of(context, verdict).version, verdict.digest)
    request = replace(request, reason="the first model that passed")

    def require_vacancy() -> None:
        if (champion := context.holder("champion")) is not None:
            raise StaleDecision(f"version {champion} is active already; a later model must be compared with it")

    preconditions = (Precondition("role is vacant", require_vacancy),)
    return carry_out(context, request, change, preconditions, {"verdict": verdict.to_json()})


def recover(context: ReleaseContext, actor: str, now: datetime) -> list[Operation]:
    """Bring operations that a dead process left behind to an end; returns them as they ended.

    Raises:
        ReleaseError: another release is under way.
    """
    with hold_lease(context, actor, 0.0) as lease:
        operations = resume_all(context, lease, now)
        finish_return(context, lease)
        return operations


def _version_of(context: ReleaseContext, verdict: Verdict) -> ModelRef:
    """The version that a verdict is about."""
    ref = ModelRef.parse(verdict.challenger)
    if ref.name != context.model:
        raise ReleaseError(f"the verdict is about {ref.label}, which is no version of {context.model}")
    return ref


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


def _way_back(context: ReleaseContext, champion: str | None) -> str | None:
    """The version that ``@previous`` names; what it named before a promotion that died before its commit."""
    for operation in context.store.journal.unfinished(context.model):
        if operation.kind == "promotion" and champion == operation.from_version:
            return operation.previous_version
    return context.holder("previous")


def _planned_rollback(context: ReleaseContext) -> PlannedChange:
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
    return PlannedChange("rollback", champion, previous, evidence)
