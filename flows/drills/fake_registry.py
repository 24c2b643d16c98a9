"""The world of the promotion drill: a registry, a journal, three versions, and what must always hold there.

Version 1 is active, version 2 was compared with it and may be promoted, and version 3 is what a
stranger's hand moves ``@champion`` to.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from sqlalchemy import update

from bentos.errors import IncumbentError, RegistryUnavailable, RoleVacant, VersionMissing
from bentos.keys import Key
from bentos.promotion.evidence import write_verdict
from bentos.promotion.promote import (
    ReleaseContext,
    Request,
    appoint,
    install_first,
    promote,
    reconcile,
    recover,
    rollback,
)
from bentos.registry.ports import ROLES, ModelRef, Role, VersionInfo
from bentos.release.emergency import TwoKeys, emergencies, promote_emergency
from bentos.release.expiry import ACTOR, end_overdue
from bentos.usecase.definition import UseCase
from flows.drills.interleaving import CallHook, ObservedPart
from monitoring.core.hashing import canonical_json, sha256_hex
from monitoring.core.verdict import Verdict
from monitoring.errors import MonitoringError
from monitoring.store import Store
from monitoring.store.database.tables import leases

MODEL: Final = "drill-fraud"
NOW: Final = datetime(2026, 3, 2, 12, tzinfo=UTC)
REGISTRY_WRITES: Final = frozenset({"point", "clear"})
STORE_WRITES: Final = frozenset({"acquire", "renew", "release", "plan", "move", "append", "pin", "unpin"})
HOUR: Final = timedelta(hours=1)
_TWO_KEYS: Final = TwoKeys(*(Key(name, name, ("approve",), "", NOW) for name in ("ann", "bob")))
REFUSALS: Final = (IncumbentError, MonitoringError)


class _Unreachable:
    """A registry that does not answer."""

    def __getattr__(self, name: str) -> Callable[..., object]:
        def call(*_: object, **__: object) -> object:
            raise RegistryUnavailable("the drill has taken the registry away")

        return call


class SketchRegistry:
    """A registry in memory whose versions are folders; it offers what MLflow's aliases offer, and no more."""

    def __init__(self, folders: dict[str, Path]) -> None:
        self._folders = folders
        self._aliases: dict[str, str] = {}

    def resolve(self, name: str, alias: str) -> ModelRef:
        """See :class:`~bentos.registry.ports.ModelRegistry`."""
        if alias not in self._aliases:
            raise RoleVacant(f"{name} has no @{alias}")
        return ModelRef(name, self._aliases[alias])

    def roles(self, name: str) -> dict[Role, ModelRef]:
        """See :class:`~bentos.registry.ports.ModelRegistry`."""
        return {role: ModelRef(name, self._aliases[role]) for role in ROLES if role in self._aliases}

    def point(self, name: str, alias: str, version: str) -> None:
        """See :class:`~bentos.registry.ports.ModelRegistry`."""
        if version not in self._folders:
            raise VersionMissing(f"{name}/{version} does not exist")
        self._aliases[alias] = version

    def clear(self, name: str, alias: str) -> None:
        """See :class:`~bentos.registry.ports.ModelRegistry`."""
        self._aliases.pop(alias, None)

    def fetch(self, ref: ModelRef, into: Path) -> Path:
        """See :class:`~bentos.registry.ports.ModelRegistry`."""
        into.mkdir(parents=True, exist_ok=True)
        for file in self._folders[ref.version].iterdir():
            shutil.copyfile(file, into / file.name)
        return into

    def describe(self, ref: ModelRef) -> VersionInfo:
        """See :class:`~bentos.registry.ports.ModelRegistry`."""
        return VersionInfo(ref, {}, NOW)

    def versions(self, name: str) -> list[VersionInfo]:
        """See :class:`~bentos.registry.ports.ModelRegistry`."""
        return [self.describe(ModelRef(name, version)) for version in self._folders]

    def register(self, *_: object, **__: object) -> ModelRef:
        """Nothing is registered during the drill."""
        raise NotImplementedError


def version_folders(folder: Path) -> dict[str, Path]:
    """Three versions whose digests agree; no booster is loaded by the drill."""
    folders = {}
    for number in ("1", "2", "3"):
        path = folder / number
        path.mkdir(parents=True, exist_ok=True)
        files = {"model.ubj": number.encode(), "contract.json": b"{}"}
        for name, data in files.items():
            (path / name).write_bytes(data)
        digests = canonical_json({name: sha256_hex(data) for name, data in files.items()})
        (path / "digests.json").write_bytes(digests)
        folders[number] = path
    return folders


def accept_version(folder: Path) -> None:
    """A look at a version that every version passes: the drill is about roles, not about models."""


def make_verdict(outcome: Any = "promote", kind: Any = "comparison", challenger: str = "2") -> Verdict:
    """The verdict of the comparison of 2 with 1, or of the gates."""
    champion = None if kind == "gate" else f"{MODEL}/1"
    return Verdict(kind, outcome, (), f"{MODEL}/{challenger}", champion, NOW, ("it saves money",))


def _request(reason: str = "a drill") -> Request:
    return Request("drill", reason, NOW)


@dataclass(frozen=True)
class DrillWorld:
    """One world.

    Attributes:
        registry, store: the real parts.
        usecase: whose rules hold.
    """

    registry: Any
    store: Store
    usecase: UseCase

    def with_roles(self) -> DrillWorld:
        """Version 1 active, version 2 under comparison."""
        install_first(self._context, make_verdict("pass", "gate", "1"), _request())
        appoint(self._context, "2", "challenger", _request("it passed"))
        write_verdict(self.store, self.usecase.name, make_verdict(), "drill", NOW)
        return self

    def without_registry(self) -> DrillWorld:
        """The same world without its registry."""
        return dataclasses.replace(self, registry=_Unreachable())

    def with_hooks(self, before: CallHook, before_store: CallHook) -> DrillWorld:
        """The same world as one process sees it, with a call ahead of each of its own."""
        names = ("journal", "decisions", "orders")
        parts: dict[str, Any] = {name: ObservedPart(getattr(self.store, name), before_store) for name in names}
        return dataclasses.replace(
            self, registry=ObservedPart(self.registry, before), store=dataclasses.replace(self.store, **parts)
        )

    def promote(self) -> object:
        """Ask for version 2."""
        return promote(self._context, make_verdict(), _request(""))

    def rollback(self) -> object:
        """Ask for the way back."""
        return rollback(self._context, _request(), patience=0.0)

    def pin(self) -> object:
        """Ask for the way back while the registry does not answer."""
        return self.without_registry().rollback()

    def rush(self) -> object:
        """Two people put version 2 into the champion's role without a verdict, for an hour."""
        return promote_emergency(self._context, "2", _TWO_KEYS, _request(), until=NOW + HOUR)

    def expire(self) -> object:
        """Look for emergencies whose time is up, when it is."""
        return end_overdue(self._context, NOW + HOUR, patience=0.0)

    def expire_cut_off(self) -> object:
        """The same while the registry does not answer."""
        return self.without_registry().expire()

    def recover(self, later: timedelta = timedelta()) -> object:
        """End what was left behind."""
        return recover(self._context, "drill", NOW + later)

    def reconcile(self) -> object:
        """Make the registry agree with the journal."""
        return reconcile(self._context, _request(""))

    @property
    def _context(self) -> ReleaseContext:
        return ReleaseContext(self.registry, self.store, self.usecase, MODEL, accept_version)

    def expire_leases(self) -> None:
        """What happens by itself some time after a process died."""
        with self.store.database.write() as connection:
            connection.execute(update(leases).values(expires_at=0))

    def roles(self) -> dict[str, str]:
        """Role to version by the registry."""
        return {role: ref.version for role, ref in self.registry.roles(MODEL).items()}

    def journalled(self) -> dict[str, str]:
        """Role to version by the journal."""
        ends = {role: self.store.decisions.terms(MODEL, role) for role in ROLES}
        return {role: terms[-1][0] for role, terms in ends.items() if terms and terms[-1][0] is not None}


def broken_invariants(world: DrillWorld, strangers: frozenset[str] = frozenset()) -> list[str]:
    """What must hold at every moment: old or new active, and a way back that leads to the old one.

    ``strangers`` are versions that a hand outside the product has moved the alias to.
    """
    roles = world.roles()
    violations = []
    if roles.get("champion") not in {"1", "2"} | strangers:
        violations.append(f"@champion is {roles.get('champion')}")
    if roles.get("previous") not in (None, "1"):
        violations.append(f"@previous is {roles.get('previous')}")
    if not world.store.orders.standing(MODEL).explained <= {"1", "2"}:
        violations.append("the journal explains a version that nobody approved")
    return violations


def recover_and_check(world: DrillWorld) -> list[str]:
    """What must hold after time has passed, a recovery and a reconciliation: one truth, nothing left, a whole chain."""
    violations = []
    world.expire_leases()
    for act in (world.recover, world.reconcile, world.expire):
        try:
            act()
        except REFUSALS as exc:
            violations.append(f"{act.__name__} is refused: {exc}")
    if world.roles() != world.journalled():
        violations.append(f"the registry says {world.roles()}, the journal {world.journalled()}")
    if world.store.journal.unfinished(MODEL):
        violations.append("an operation is left")
    return [
        *violations,
        *broken_invariants(world),
        *_emergency_violations(world),
        *world.store.decisions.verify(),
        *_next_release_violations(world),
    ]


def _emergency_violations(world: DrillWorld) -> list[str]:
    """No emergency outlives its time, and none ends twice."""
    name = world.usecase.name
    overdue = [
        emergency for emergency in emergencies(world.store, name, MODEL, NOW + HOUR) if emergency.state == "overdue"
    ]
    rollbacks = world.store.decisions.list(name, ("rollback.champion_set", "rollback.pinned"), limit=None)
    ended = sum(line.actor == ACTOR for line in rollbacks)
    return ["an emergency outlived its time"] * len(overdue) + ([f"it ended {ended} times"] if ended > 1 else [])


def _next_release_violations(world: DrillWorld) -> list[str]:
    """The state is one that people can work from: what is asked for next is done, or refused for a reason."""
    for act in (world.promote, world.rollback) if world.roles()["champion"] == "1" else (world.rollback,):
        try:
            act()
        except REFUSALS:
            continue
        except Exception as exc:
            return [f"{act.__name__} fails: {type(exc).__name__}"]
    return [] if world.roles() == world.journalled() else ["the next release leaves registry and journal apart"]


WorldFactory = Callable[[Path], DrillWorld]
