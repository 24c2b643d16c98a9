"""What must hold before roles change: one list for the preview and the run, and in a run asked under the lease."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from bentos.errors import PromotionHeld, ReleaseError, StaleDecision
from bentos.promotion.change_freeze import why_held_now
from bentos.promotion.context import ReleaseContext
from bentos.promotion.evidence import require_evidence
from bentos.promotion.request import PlannedChange, Request, version_text
from bentos.registry.ports import ModelRef
from monitoring.core.verdict import Verdict
from monitoring.store import Decision


@dataclass(frozen=True)
class Precondition:
    """One of them.

    Attributes:
        name: what must hold, in two or three words.
        require: raises ``ReleaseError`` where it does not hold.
        in_preview: whether a preview is refused without it too.
    """

    name: str
    require: Callable[[], object]
    in_preview: bool = True


def require_all(
    context: ReleaseContext, request: Request, change: PlannedChange, preconditions: Iterable[Precondition]
) -> Decision | None:
    """Ask every precondition, in order; the line of the chain that a promotion rests on.

    That line is looked up last and whatever the list says. Only the preview of an order that was not given has none.

    Raises:
        ReleaseError: of the first that does not hold.
    """
    for precondition in preconditions:
        if precondition.in_preview or not request.preview:
            precondition.require()
    if change.kind != "promotion" or (request.preview and not change.evidence):
        return None
    return require_evidence(context, request, change)


def of_promotion(
    context: ReleaseContext, request: Request, change: PlannedChange, verdict: Verdict
) -> tuple[Precondition, ...]:
    """What a promotion on a verdict needs."""
    challenger = ModelRef(context.model, change.to_version)
    return (
        Precondition("roles as compared", lambda: _require_roles(context, change)),
        Precondition("not barred", lambda: refuse_barred(context, challenger)),
        Precondition("approved", lambda: _require_approved(context, verdict), in_preview=False),
        Precondition("not held", lambda: _require_not_held(context, request)),
    )


def _require_roles(context: ReleaseContext, change: PlannedChange) -> None:
    current, challenger = context.holder("champion"), context.holder("challenger")
    expected = context.journalled("champion")
    if not context.rules.hand_edits and expected is not None and current not in (None, expected):
        raise StaleDecision(
            f"@champion was moved to {version_text(current)} by hand, while the journal says {version_text(expected)}; "
            "look into it, then run `python -m bentos.release reconcile`"
        )
    if current != change.from_version:
        raise StaleDecision(
            f"the verdict compared with {version_text(change.from_version)}, but {version_text(current)} is active"
        )
    if challenger != change.to_version:
        raise StaleDecision(
            f"the verdict is about version {change.to_version}, but the challenger is {version_text(challenger)}"
        )


def refuse_barred(context: ReleaseContext, ref: ModelRef) -> None:
    """Raise ``ReleaseError`` for a version that was rolled back from and has no plan opened since."""
    barred = context.store.decisions.barred(ref.name)
    if ref.version in barred:
        raise ReleaseError(
            f"version {ref.version} was rolled back from ({barred[ref.version]}) and is barred until a new "
            "comparison is opened for it; appoint it as challenger again, train a new version, or lift the bar "
            "with a reason"
        )


def _require_approved(context: ReleaseContext, verdict: Verdict) -> None:
    """A person approved this very verdict, where the use case asks for it."""
    from bentos.promotion.approval import approved_by

    if context.rules.approval == "required" and approved_by(context.store, context.usecase.name, verdict) is None:
        raise ReleaseError("this use case requires a person's approval, and nobody has approved this verdict")


def _require_not_held(context: ReleaseContext, request: Request) -> None:
    if (freeze_reason := why_held_now(context.store, context.usecase, request.at)) is not None:
        raise PromotionHeld(freeze_reason)
