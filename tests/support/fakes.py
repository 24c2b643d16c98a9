"""Stand-ins that pass the same contract tests as the real adapters."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from bentos.errors import RegistryUnavailable, RoleVacant, VersionMissing
from bentos.model.scoring_model import MODEL_FILES, verified_files
from bentos.registry.ports import ROLES, ModelRef, Role, RolesView, VersionInfo
from bentos.registry.routing_policy import RoutingPolicy
from flows.steps.tracking.mlflow_run import DatasetFacts


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
        self._routing: dict[str, str] = {}

    def resolve(self, name: str, alias: str) -> ModelRef:
        self._answer()
        if (name, alias) not in self._aliases:
            raise RoleVacant(f"{name} has no @{alias}")
        return ModelRef(name, self._aliases[name, alias])

    def roles(self, name: str) -> dict[Role, ModelRef]:
        self._answer()
        return {role: ModelRef(name, self._aliases[name, role]) for role in ROLES if (name, role) in self._aliases}

    def look(self, name: str) -> RolesView:
        return RolesView(self.roles(name), self._routing.get(name))

    def routing(self, name: str) -> RoutingPolicy | None:
        text = self.look(name).routing
        return None if text is None else RoutingPolicy.from_text(text)

    def set_routing(self, name: str, policy: RoutingPolicy | None) -> None:
        if not self.versions(name):
            raise VersionMissing(f"{name} does not exist")
        if policy is None:
            self._routing.pop(name, None)
        else:
            self._routing[name] = policy.to_text()

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

    def restore(self, ref: ModelRef, folder: Path, tags: Mapping[str, str]) -> ModelRef:
        self._answer()
        shutil.copytree(folder, self._folder / ref.name / ref.version, dirs_exist_ok=True)
        self._versions[ref] = VersionInfo(ref, dict(tags), datetime.now(UTC))
        return ref

    def experiment_deleted(self, name: str) -> bool:
        self._answer()
        return False

    def bring_back_experiment(self, name: str) -> None:
        self._answer()

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


class FakeTracker:
    """A tracker in memory; kept files are copied into a temporary folder.

    Attributes:
        runs: run id to everything logged: ``experiment name params metrics tags datasets state``.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self._folder = folder or Path(mkdtemp(prefix="incumbent-fake-"))

    def start(self, experiment: str, name: str, tags: Mapping[str, str]) -> str:
        run_id = f"run-{len(self.runs) + 1}"
        empty: dict[str, Any] = {"params": {}, "metrics": {}, "datasets": [], "state": "RUNNING"}
        self.runs[run_id] = empty | {"experiment": experiment, "name": name, "tags": dict(tags)}
        return run_id

    def log(
        self,
        run_id: str,
        params: Mapping[str, object] | None = None,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        run = self._known(run_id)
        run["params"] |= {key: str(value) for key, value in (params or {}).items()}
        run["metrics"] |= metrics or {}
        run["tags"] |= tags or {}

    def dataset(self, run_id: str, facts: DatasetFacts) -> None:
        self._known(run_id)["datasets"].append(facts)

    def params(self, run_id: str) -> Mapping[str, str]:
        return dict(self._known(run_id)["params"])

    def keep(self, run_id: str, folder: Path) -> None:
        self._known(run_id)
        shutil.copytree(folder, self._folder / run_id, dirs_exist_ok=True)

    def fetch(self, run_id: str, path: str, into: Path) -> Path:
        self._known(run_id)
        kept = self._folder / run_id / path
        if not kept.exists():
            raise VersionMissing(f"run {run_id} keeps no {path}")
        (into / path).parent.mkdir(parents=True, exist_ok=True)
        if kept.is_dir():
            return Path(shutil.copytree(kept, into / path))
        return Path(shutil.copyfile(kept, into / path))

    def finish(self, run_id: str, ok: bool) -> None:
        self._known(run_id)["state"] = "FINISHED" if ok else "FAILED"

    def _known(self, run_id: str) -> dict[str, Any]:
        if run_id not in self.runs:
            raise VersionMissing(f"run {run_id} does not exist")
        return self.runs[run_id]
