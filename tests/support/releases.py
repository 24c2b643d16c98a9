"""What the tests of releases need: versions, verdicts, and processes that die between two writes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import update

from bentos.promotion.evidence import write_training, write_verdict
from bentos.promotion.promote import ReleaseOutcome
from bentos.registry.ports import ModelRef
from monitoring.core.hashing import canonical_json, sha256_hex
from monitoring.core.verdict import Verdict
from monitoring.store import Store, memory_store
from monitoring.store.database.tables import leases
from tests.support import release_requests
from tests.support.builders import fraud
from tests.support.fakes import FakeRegistry
from tests.support.release_requests import appoint, install_first

MODEL = "dev-fraud"
NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
_WRITES = {"point", "clear", "acquire", "renew", "release", "plan", "move", "append"}


def version_files(folder: Path, content: bytes) -> Path:
    """A model folder whose digests agree and whose booster is no booster."""
    folder.mkdir(parents=True)
    files = {"model.ubj": content, "contract.json": b"{}"}
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / "digests.json").write_bytes(canonical_json({n: sha256_hex(d) for n, d in files.items()}))
    return folder


def registry_of(folder: Path, versions: int = 3) -> FakeRegistry:
    """A registry with that many versions and no role."""
    made = FakeRegistry(folder / "registry")
    for number in range(versions):
        made.register(version_files(folder / f"source{number}", b"%d" % number), MODEL)
    return made


def ref(version: str) -> ModelRef:
    return ModelRef(MODEL, version)


def passed(version: str) -> Verdict:
    """The gates let this version through."""
    return Verdict("gate", "pass", (), ref(version).label, None, NOW)


def compared(champion: str | None, challenger: str, outcome: str = "promote", **changes: Any) -> Verdict:
    """A comparison's verdict."""
    old = None if champion is None else ref(champion).label
    made = Verdict("comparison", outcome, (), ref(challenger).label, old, NOW, ("it saves money",))  # type: ignore[arg-type]  # one of the outcomes
    return dataclasses.replace(made, **changes)


def promote(registry: Any, store: Store, verdict: Any, **named: Any) -> ReleaseOutcome:
    """A comparison, or a training, enters its verdict into the chain; then somebody promotes on it."""
    if isinstance(verdict, Verdict):
        enter(store, verdict, named["usecase"].name)
    return release_requests.promote(registry, store, verdict, **named)


def enter(store: Store, verdict: Verdict, usecase: str = "fraud") -> None:
    """The verdict stands in the chain as a comparison or a training leaves it, once."""
    lines = store.decisions.list(usecase, ("comparison.verdict", "training"), limit=None)
    if verdict.digest in [line.payload.get("digest", line.payload.get("verdict")) for line in lines]:
        return
    if verdict.kind == "gate":
        write_training(store, usecase, verdict.challenger, verdict, "trainer", verdict.as_of)
    else:
        write_verdict(store, usecase, verdict, "comparer", verdict.as_of)


def harmless(folder: Path) -> None:
    """A check that every version passes."""


def challenged(folder: Path, actor: str = "ann") -> tuple[FakeRegistry, Store]:
    """A registry and its store: version 1 active, version 2 its challenger."""
    registry, store = registry_of(folder), memory_store()
    names: dict[str, Any] = {"usecase": fraud(), "actor": actor, "now": NOW, "check": harmless}
    install_first(registry, store, passed("1"), **names)
    appoint(registry, store, ref("2"), "challenger", reason="it passed", **names)
    return registry, store


class Killed(BaseException):
    """The process is dead."""


class Process:
    """A registry and a store as one process sees them; ``before`` is called ahead of each of its writes."""

    def __init__(self, registry: FakeRegistry, store: Store, before: Callable[[], None]) -> None:
        self.registry: Any = _Watched(registry, before)
        parts = {name: _Watched(getattr(store, name), before) for name in ("journal", "decisions")}
        self.store = dataclasses.replace(store, **parts)  # type: ignore[arg-type]  # they behave like the real ones


def dies_after(writes: int) -> Callable[[], None]:
    """For :class:`Process`: the process is dead after so many writes."""
    left = writes

    def before() -> None:
        nonlocal left
        if left <= 0:
            raise Killed
        left -= 1

    return before


class _Watched:
    def __init__(self, real: object, before: Callable[[], None]) -> None:
        self._real = real
        self._before = before

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._real, name)
        if name not in _WRITES:
            return found

        def call(*args: Any, **named: Any) -> Any:
            self._before()
            return found(*args, **named)

        return call


def time_passes(store: Store) -> None:
    """Every lease runs out: what happens on its own some time after a process died."""
    with store.database.write() as connection:
        connection.execute(update(leases).values(expires_at=0))


def promoted_once(folder: Path, store: Store) -> FakeRegistry:
    """Version 1 was installed, and version 2 promoted over it."""
    made = registry_of(folder)
    install_first(made, store, passed("1"), usecase=fraud(), actor="me", now=NOW, check=harmless)
    made.point(MODEL, "challenger", "2")
    promote(made, store, compared("1", "2"), usecase=fraud(), actor="me", now=NOW, check=harmless)
    return made
