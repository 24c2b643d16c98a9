"""How an operation of release moves: one registry write, then its line in the journal, state by state.

    promotion     PLANNED  VERIFIED  PREVIOUS_SET  CHAMPION_SET  CONFIRMED  DONE
    rollback      PLANNED  VERIFIED                CHAMPION_SET  CONFIRMED  DONE
    installation  PLANNED  VERIFIED                CHAMPION_SET  CONFIRMED  DONE

The registry knows neither compare-and-swap nor a write of two aliases, so one write is the commit:
``@champion``. Before it everything can be left or taken back; after it everything goes forward. Each
step may be done again, so a process that dies between a write and its line is made good by
:func:`resume`, which asks the registry what is true before it believes the journal.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from bentos.errors import ModelError, ReleaseError, VersionMissing
from bentos.promotion.context import ReleaseContext
from bentos.registry.ports import Role
from monitoring.store import Lease, Operation, RoleChange
from monitoring.store.decisions.journal import State

log = logging.getLogger("incumbent.release")

LEASE_SECONDS: Final = 90.0
"""Longer than the longest step, the look at a version in a process apart."""
FRESH: Final = timedelta(hours=1)
"""An operation that was planned this long ago (business time) is resumed; an older one is taken back."""
_ASK_SECONDS: Final = 0.1


class Aborted(ReleaseError):
    """The operation was taken back; the text says why."""


@dataclass
class Work:
    """One operation in the hands of one lease holder.

    Attributes:
        context: what to work with.
        lease: renewed before every write.
        operation: as far as it has come.
        acknowledged: whether every live replica serves the new champion; none when nobody was asked.
        changes: roles that changed hands so far.
    """

    context: ReleaseContext
    lease: Lease
    operation: Operation
    acknowledged: bool | None = None
    changes: list[RoleChange] = field(default_factory=list)

    def run(self) -> Operation:
        """Go on to the end.

        Raises:
            Aborted: a check failed before the commit; what was written has been taken back.
            LeaseHeld: another took the lease over; the operation can be resumed.
        """
        steps: Mapping[str, Callable[[], None]] = {
            "PLANNED": self._verify,
            "VERIFIED": self._set_previous,
            "PREVIOUS_SET": self._set_champion,
            "CHAMPION_SET": self._confirm,
            "CONFIRMED": lambda: self._move("DONE", self.operation.note),
        }
        while not self.operation.finished:
            self._renew_lease()
            steps[self.operation.state]()
        return self.operation

    def _verify(self) -> None:
        try:
            self.context.contract_of(self.operation.to_version, self.operation.contract)
        except (ModelError, VersionMissing) as exc:
            self.abort(f"version {self.operation.to_version} must not serve: {exc}")
        self._move("VERIFIED", "digests, input schema and golden rows agree")

    def _set_previous(self) -> None:
        """Only a promotion keeps a way back; a rollback is on it already, an installation has none."""
        from_version = self.operation.from_version
        if self.operation.kind != "promotion" or from_version is None:
            self._set_champion()
            return
        self._point("previous", from_version)
        self._move("PREVIOUS_SET", changes=[self._change("previous", from_version)])

    def _set_champion(self) -> None:
        """The commit. Both the lease and the champion are looked at again just before it."""
        operation = self.operation
        champion = self.context.holder("champion")
        if champion not in (operation.from_version, operation.to_version):
            self.abort(f"@champion is {_name(champion)}, expected {_name(operation.from_version)}: somebody moved it")
        self._point("champion", operation.to_version)
        self.committed()

    def committed(self) -> None:
        """Note that the new champion is active."""
        operation = self.operation
        change = RoleChange(operation.model, "champion", operation.to_version, operation.contract)
        self._move("CHAMPION_SET", changes=[change])

    def _confirm(self) -> None:
        changes = [self._vacate(role) for role in self._roles_to_vacate()]
        champion = self.context.holder("champion")
        if champion != self.operation.to_version:
            self.abandon(f"@champion reads back as {_name(champion)}: somebody moved it")
            return
        self.acknowledged = self._wait_until_served()
        notes = {None: "no replica to ask", True: "every replica serves it", False: "not every replica serves it yet"}
        self._move("CONFIRMED", notes[self.acknowledged], changes)

    def _roles_to_vacate(self) -> list[Role]:
        """Roles that the new champion leaves; a rollback also uses up ``@previous``.

        The journal is asked too: a process may have died between clearing a role and its line.
        """
        roles: list[Role] = ["challenger", "candidate"]
        if self.operation.kind == "rollback":
            roles.append("previous")
        to_version = self.operation.to_version
        return [role for role in roles if to_version in (self.context.holder(role), self.context.journalled(role))]

    def _vacate(self, role: Role) -> RoleChange:
        self._renew_lease()
        if self.context.holder(role) is not None:
            self.context.registry.clear(self.context.model, role)
        return self._change(role, None)

    def _wait_until_served(self) -> bool | None:
        return wait_served(self.context, self.operation.to_version, self._renew_lease)

    def abort(self, reason: str) -> None:
        """Take back what was written before the commit, note why, and raise :class:`Aborted`."""
        operation, previous_version = self.operation, self.operation.previous_version
        changes = []
        is_moved = {self.context.holder("previous"), self.context.journalled("previous")} != {previous_version}
        if operation.kind == "promotion" and is_moved:
            if previous_version is None:
                changes.append(self._vacate("previous"))
            else:
                self._point("previous", previous_version)
                changes.append(self._change("previous", previous_version))
        self._move("ABORTED", reason, changes)
        log.warning("%s of %s aborted: %s", operation.kind, operation.model, reason)
        raise Aborted(f"the {operation.kind} was taken back: {reason}")

    def abandon(self, reason: str) -> None:
        """End an operation whose result somebody else has changed: touch nothing, say so loudly."""
        operation, champion = self.operation, self.context.holder("champion")
        log.error("%s of %s ended by another hand: %s", operation.kind, operation.model, reason)
        # What no decision explains is not served, so it is no term as champion either.
        self._move("ABORTED", reason, [self._change("champion", champion)] if self.context.rules.hand_edits else [])

    def drop(self, reason: str) -> None:
        """End an operation that a later decision has overtaken; roles stay as that decision left them."""
        self._move("ABORTED", reason)

    def _point(self, role: Role, version: str) -> None:
        self._renew_lease()
        self.context.registry.point(self.context.model, role, version)

    def _renew_lease(self) -> None:
        self.lease = self.context.store.journal.renew(self.lease, LEASE_SECONDS)

    def _change(self, role: Role, version: str | None) -> RoleChange:
        return RoleChange(self.operation.model, role, version)

    def _move(self, state: State, note: str = "", changes: Sequence[RoleChange] = ()) -> None:
        self.operation = self.context.store.journal.move(self.operation, state, self.lease, note, changes)
        self.changes += changes


def wait_served(context: ReleaseContext, version: str, hold: Callable[[], None] = lambda: None) -> bool | None:
    """Whether all live replicas serve a version, asked until they do or the context's time is up; none without any.

    ``hold`` is called between two questions.
    """
    deadline = time.monotonic() + context.wait_seconds
    while True:
        served_versions = [replica.version for replica in context.store.serving.live(context.usecase.name)]
        if not served_versions:
            return None
        if all(served_version == version for served_version in served_versions):
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(_ASK_SECONDS)
        hold()


def resume(context: ReleaseContext, lease: Lease, operation: Operation, is_fresh: bool) -> Operation:
    """Bring an operation that its process left behind to an end.

    The registry's word counts: with the new champion active it goes forward, with the old one it
    goes on while its evidence is ``is_fresh`` and is taken back otherwise, and with a third one it is
    ended without touching anything.
    """
    work = Work(context, lease, operation)
    champion = context.holder("champion")
    if champion == operation.to_version and champion != operation.from_version:
        if operation.state not in ("CHAMPION_SET", "CONFIRMED"):
            work.committed()
        return work.run()
    if champion != operation.from_version or operation.state in ("CHAMPION_SET", "CONFIRMED"):
        work.abandon(f"@champion is {_name(champion)}, which this {operation.kind} did not leave there")
    elif is_fresh:
        return work.run()
    else:
        _abort_quietly(work, "it was left behind and its evidence is no longer fresh")
    return work.operation


def _abort_quietly(work: Work, reason: str) -> None:
    try:
        work.abort(reason)
    except Aborted:
        return


def _name(version: str | None) -> str:
    return "vacant" if version is None else f"version {version}"
