"""Which role a judged model gets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal

from bentos.errors import PromotionHeld, StaleDecision
from bentos.registry.mlflow import ModelRef, ModelRegistry
from bentos.settings import Settings
from bentos.usecase.definition import UseCase
from flows.errors import FlowRefused
from flows.workspace.step import step
from monitoring.core.verdict import Verdict

if TYPE_CHECKING:
    from bentos.promotion.state_machine import Check
    from monitoring.store import Store

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
def assign_role(
    usecase: UseCase,
    settings: Settings,
    registry: ModelRegistry,
    store: Store,
    ref: ModelRef | None,
    verdict: Verdict,
    *,
    actor: str,
    now: datetime,
    check: Check | None = None,
) -> RoleAssignment:
    """Give a version the role that its verdict earns; repeating it changes nothing.

    The first model that passes becomes champion through :func:`bentos.promotion.promote.install_first` unless the
    use case declares an external incumbent. A later one becomes ``@challenger``, or ``@candidate``
    while a comparison is under way: a challenger is never replaced before its own verdict. Where the use
    case says ``takes_office = "after_gates"`` a challenger becomes champion at once, if its gates measured the
    champion and promotions are not held; else it stays under comparison.

    Args:
        usecase, settings: which model, in which environment.
        registry, store: where roles and journal are.
        ref: the registered version, or none when the gates refused it.
        verdict: of the gates, about this version.
        actor: who asked, for the journal.
        now: business time of the request, aware.
        check: looks at the version's files; none loads it in a process apart.

    Raises:
        FlowRefused: when the verdict is about another model than ``ref``, or ``ref`` belongs elsewhere.
        ReleaseError: the version must not serve, or another release is under way.
    """
    if ref is None or verdict.outcome != "pass":
        return RoleAssignment(None, ref, f"the gates say {verdict.outcome}: {verdict.reasons[0]}")
    _require_verdict_of(ref, verdict, settings.model_name(usecase.name))
    roles = registry.roles(ref.name)
    for role in _ROLES:
        if roles.get(role) == ref:
            return RoleAssignment(role, ref, f"it is @{role} already")
    request = _Request(usecase, registry, store, actor, now, check)
    if "champion" not in roles and usecase.incumbent is None:
        return request.install(ref, verdict)
    if "challenger" not in roles and "candidate" in roles:  # whoever waited longer goes first
        request.promote_candidate(ref.name)
        roles = registry.roles(ref.name)
    if "challenger" not in roles:
        assignment = request.appoint(ref, "challenger", "nothing else is under comparison")
        return request.promote(verdict, assignment) if usecase.promotion.takes_office == "after_gates" else assignment
    if (waiting_ref := roles.get("candidate")) is not None:
        return RoleAssignment(
            None, ref, f"{waiting_ref.label} waits for its turn already, and nothing is evicted by itself"
        )
    return request.appoint(ref, "candidate", f"{roles['challenger'].label} is under comparison until its verdict")


@dataclass(frozen=True)
class _Request:
    usecase: UseCase
    registry: ModelRegistry
    store: Store
    actor: str
    now: datetime
    check: Check | None

    def install(self, ref: ModelRef, verdict: Verdict) -> RoleAssignment:
        """The first model becomes champion; when another was quicker, this one challenges it."""
        from bentos.promotion.promote import install_first

        try:
            install_first(
                self.registry, self.store, verdict,
                usecase=self.usecase, actor=self.actor, now=self.now, check=self.check,
            )  # fmt: skip
        except StaleDecision:
            return self.appoint(ref, "challenger", "another model became champion first")
        return RoleAssignment("champion", ref, "the first model that passed its gates becomes champion")

    def promote(self, verdict: Verdict, assignment: RoleAssignment) -> RoleAssignment:
        """Put a challenger active on the strength of its gates, or leave it under comparison."""
        from bentos.promotion.promote import promote

        if verdict.champion is None:
            return replace(assignment, reason="its gates could not measure the champion, so it is compared in shadow")
        try:
            promote(
                self.registry, self.store, verdict,
                usecase=self.usecase, actor=self.actor, now=self.now, check=self.check,
                reason="its gates passed, which is what [promotion] takes_office asks for",
            )  # fmt: skip
        except PromotionHeld as exc:
            return replace(assignment, reason=f"{exc}; until then it is compared in shadow")
        return RoleAssignment(
            "champion", assignment.ref, f"it passed its gates beside {verdict.champion}, on the same rows"
        )

    def appoint(self, ref: ModelRef, role: Literal["challenger", "candidate"], reason: str) -> RoleAssignment:
        """Name a challenger or a candidate, in the journal too."""
        from bentos.promotion.promote import appoint

        appoint(
            self.registry, self.store, ref, role,
            usecase=self.usecase, actor=self.actor, now=self.now, reason=reason,
            check=self.check,
        )  # fmt: skip
        return RoleAssignment(role, ref, reason)

    def promote_candidate(self, model: str) -> None:
        """The candidate that waits becomes the challenger."""
        from bentos.promotion.promote import appoint_next_candidate

        appoint_next_candidate(
            self.registry, self.store, model,
            usecase=self.usecase, actor=self.actor, now=self.now, check=self.check,
        )  # fmt: skip


def _require_verdict_of(ref: ModelRef, verdict: Verdict, name: str) -> None:
    if verdict.challenger != ref.label:
        raise FlowRefused(f"the verdict is about {verdict.challenger}, not about {ref.label}; judge that version")
    if ref.name != name:
        raise FlowRefused(f"{ref.label} is no version of {name}; evidence never crosses environments or use cases")
