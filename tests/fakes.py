"""Stand-ins that pass the same contract tests as the real adapters."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from tempfile import mkdtemp

from bentos.errors import RegistryUnavailable, RoleVacant, VersionMissing
from bentos.model import MODEL_FILES, verified_files
from bentos.roles import ROLES, ModelRef, Role, VersionInfo


class FakeRegistry:
    """A registry in memory; model files are copied into a temporary folder.

    Set ``down = True`` to play an outage.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.down = False
        self.writes: list[tuple[str, str, str | None]] = []
        self._folder = folder or Path(mkdtemp(prefix="incumbent-fake-"))
        self._versions: dict[ModelRef, VersionInfo] = {}
        self._aliases: dict[tuple[str, str], str] = {}

    def resolve(self, name: str, alias: str) -> ModelRef:
        self._answer()
        if (name, alias) not in self._aliases:
            raise RoleVacant(f"{name} has no @{alias}")
        return ModelRef(name, self._aliases[name, alias])

    def roles(self, name: str) -> dict[Role, ModelRef]:
        self._answer()
        return {role: ModelRef(name, self._aliases[name, role]) for role in ROLES if (name, role) in self._aliases}

    def point(self, name: str, alias: str, version: str) -> None:
        self._known(ModelRef(name, str(version)))
        self._aliases[name, alias] = str(version)
        self.writes.append((name, alias, str(version)))

    def clear(self, name: str, alias: str) -> None:
        self._answer()
        self._aliases.pop((name, alias), None)
        self.writes.append((name, alias, None))

    def register(
        self,
        folder: Path,
        name: str,
        tags: Mapping[str, str] | None = None,
        run_id: str | None = None,
        description: str = "",
    ) -> ModelRef:
        self._answer()
        files = verified_files(folder)
        ref = ModelRef(name, str(1 + sum(r.name == name for r in self._versions)))
        target = self._folder / name / ref.version
        target.mkdir(parents=True)
        for file, data in files.items():
            (target / file).write_bytes(data)
        self._versions[ref] = VersionInfo(ref, dict(tags or {}), datetime.now(UTC), run_id, description)
        return ref

    def fetch(self, ref: ModelRef, into: Path) -> Path:
        self._known(ref)
        into.mkdir(parents=True, exist_ok=True)
        for file in MODEL_FILES:
            shutil.copyfile(self._folder / ref.name / ref.version / file, into / file)
        return into

    def describe(self, ref: ModelRef) -> VersionInfo:
        return self._known(ref)

    def versions(self, name: str) -> list[VersionInfo]:
        self._answer()
        return [info for ref, info in self._versions.items() if ref.name == name]

    def _answer(self) -> None:
        if self.down:
            raise RegistryUnavailable("the fake registry is down")

    def _known(self, ref: ModelRef) -> VersionInfo:
        self._answer()
        if ref not in self._versions:
            raise VersionMissing(f"{ref.label} does not exist")
        return self._versions[ref]
