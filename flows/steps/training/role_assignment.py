"""Which role a judged model gets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

from bentos.errors import PromotionHeld, StaleDecision
from bentos.registry.mlflow import ModelRef
from flows.errors import FlowRefused
from flows.workspace.step import step
from monitoring.core.verdict import Verdict

if TYPE_CHECKING:
    from bentos.promotion.context import ReleaseContext
    from bentos.promotion.request import Request

_ROLES: Final[tuple[Literal["champion", "challenger", "candidate"], ...]] = ("champion", "challenger", "candidate")


@dataclass(frozen=True)
class RoleAssignment:
    """What became of a judged version.

    Attributes:
        role: ``champion`` for the first that passes, ``challenger`` when nothing is under comparison,
            ``candidate`` when something is; none when the gates refused it, or another candidate waits.
        ref: the version, or none when nothing was registered.
        reason: one plain sentence.
    """

    role: Literal["champion", "challenger", "candidate"] | None
    ref: ModelRef | None
    reason: str

    @property
    def label(self) -> str | None:
        """``dev-fraud/3``, or none."""
        return None if self.ref is None else self.ref.label


@step(name="assign the role", run_name="give {verdict.challenger} the role that it has earned", tags=("roles",))
def assign_role(context: ReleaseContext, ref: ModelRef | None, verdict: Verdict, request: Request) -> RoleAssignment:
    """Give a version the role that its verdict earns; repeating it changes nothing.

    The first model that passes becomes champion through :func:`bentos.promotion.promote.install_first` unless the
    use case declares an external incumbent. A later one becomes ``@challenger``, or ``@candidate``
    while a comparison is under way: a challenger is never replaced before its own verdict. Where the use
    case says ``takes_office = "after_gates"`` a challenger becomes champion at once, if its gates measured the
    champion and promotions are not held; else it stays under comparison.

    Args:
        context: which model; where roles and journal are.
        ref: the registered version, or none when the gates refused it.
        verdict: of the gates, about this version.
        request: who asks, at which business time; each step says its own reason.

    Raises:
        FlowRefused: when the verdict is about another model than ``ref``, or ``ref`` belongs elsewhere.
        ReleaseError: the version must not serve, or another release is under way.
    """
    if ref is None or verdict.outcome != "pass":
        return RoleAssignment(None, ref, f"the gates say {verdict.outcome}: {verdict.reasons[0]}")
    _require_verdict_of(ref, verdict, context.model)
    from bentos.promotion.promote import appoint_next_candidate

    roles = context.registry.roles(ref.name)
    for role in _ROLES:
        if roles.get(role) == ref:
            return RoleAssignment(role, ref, f"it is @{role} already")
    if "champion" not in roles and context.usecase.incumbent is None:
        return _install(context, ref, verdict, request)
    if "challenger" not in roles and "candidate" in roles:  # whoever waited longer goes first
        appoint_next_candidate(context, request)
        roles = context.registry.roles(ref.name)
    if "challenger" not in roles:
        assignment = _appoint(context, ref, "challenger", replace(request, reason="nothing else is under comparison"))
        after_gates = context.rules.takes_office == "after_gates"
        return _promote(context, verdict, assignment, request) if after_gates else assignment
    if (waiting_ref := roles.get("candidate")) is not None:
        return RoleAssignment(
            None, ref, f"{waiting_ref.label} waits for its turn already, and nothing is evicted by itself"
        )
    reason = f"{roles['challenger'].label} is under comparison until its verdict"
    return _appoint(context, ref, "candidate", replace(request, reason=reason))


def _install(context: ReleaseContext, ref: ModelRef, verdict: Verdict, request: Request) -> RoleAssignment:
    """The first model becomes champion; when another was quicker, this one challenges it."""
    from bentos.promotion.promote import install_first

    try:
        install_first(context, verdict, request)
    except StaleDecision:
        return _appoint(context, ref, "challenger", replace(request, reason="another model became champion first"))
    return RoleAssignment("champion", ref, "the first model that passed its gates becomes champion")


def _promote(context: ReleaseContext, verdict: Verdict, assignment: RoleAssignment, request: Request) -> RoleAssignment:
    """Put a challenger active on the strength of its gates, or leave it under comparison."""
    from bentos.promotion.promote import promote

    if verdict.champion is None:
        return replace(assignment, reason="its gates could not measure the champion, so it is compared in shadow")
    reason = "its gates passed, which is what [promotion] takes_office asks for"
    try:
        promote(context, verdict, replace(request, reason=reason))
    except PromotionHeld as exc:
        return replace(assignment, reason=f"{exc}; until then it is compared in shadow")
    reason = f"it passed its gates beside {verdict.champion}, on the same rows"
    return RoleAssignment("champion", assignment.ref, reason)


def _appoint(
    context: ReleaseContext, ref: ModelRef, role: Literal["challenger", "candidate"], request: Request
) -> RoleAssignment:
    """Name a challenger or a candidate, in the journal too."""
    from bentos.promotion.promote import appoint

    appoint(context, ref.version, role, request)
    return RoleAssignment(role, ref, request.reason)


def _require_verdict_of(ref: ModelRef, verdict: Verdict, name: str) -> None:
    if verdict.challenger != ref.label:
        raise FlowRefused(f"the verdict is about {verdict.challenger}, not about {ref.label}; judge that version")
    if ref.name != name:
        raise FlowRefused(f"{ref.label} is no version of {name}; evidence never crosses environments or use cases")
