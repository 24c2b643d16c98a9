"""Homes for services of ours that nobody else uses: a registry, a database, models in their roles."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

from bentos.model.scoring_model import ScoringModel
from bentos.registry.mlflow import MlflowRegistry, open_registry
from bentos.registry.ports import ModelRef, Role
from bentos.settings import read_settings
from bentos.usecase.definition import UseCase
from bentos.usecase.loading import load_usecase
from flows.stack.local_stack import SERVICE, program
from flows.workspace.installation import PROJECT, Home
from flows.workspace.processes import Child, Command
from monitoring.store import RoleChange, Store, open_store

_FOREIGN = ("INCUMBENT_", "BENTOML_", "MLFLOW_", "PROMETHEUS_MULTIPROC_DIR")


@dataclass(frozen=True)
class BenchHome:
    """A home and the use case that is served in it."""

    root: Path
    reference: str = "fraud"
    database_url: str = ""
    mlflow_uri: str = ""
    prefect_database_url: str = ""

    @cached_property
    def home(self) -> Home:
        """Its folders; nothing of the user's own environment leaks in."""
        settings = read_settings(
            home=self.root,
            env="dev",
            usecase=self.reference,
            database_url=self.database_url,
            mlflow_uri=self.mlflow_uri,
            prefect_database_url=self.prefect_database_url,
        )
        return Home(settings)

    @cached_property
    def usecase(self) -> UseCase:
        """What is served."""
        return load_usecase(self.reference)

    @cached_property
    def registry(self) -> MlflowRegistry:
        """Versions and their roles."""
        return open_registry(self.home.settings)

    @property
    def model(self) -> str:
        """Name in the registry."""
        return self.home.settings.model_name(self.usecase.name)

    def add(self, model: ScoringModel) -> ModelRef:
        """Register a version; it holds no role."""
        with TemporaryDirectory(prefix="incumbent-bench-") as scratch:
            model.save(Path(scratch))
            return self.registry.register(Path(scratch), self.model)

    def appoint(self, ref: ModelRef, digest: str, role: Role) -> None:
        """Give a role, with its line in the journal: a service accepts no version without."""
        with self.store() as store:
            change = RoleChange(ref.name, role, ref.version, digest)
            store.decisions.append(self.usecase.name, "installation", {}, "bench", datetime.now(UTC), [change])
        self.registry.point(ref.name, role, ref.version)

    def seat(self, models: Sequence[ScoringModel]) -> list[ModelRef]:
        """Register models; the first becomes champion, the second challenger."""
        roles: tuple[Role, ...] = ("champion", "challenger")
        refs = [self.add(model) for model in models]
        for ref, model, role in zip(refs, models, roles, strict=False):
            self.appoint(ref, model.contract_digest, role)
        return refs

    def copy(self, root: Path, reference: str | None = None) -> BenchHome:
        """A second home with the same registry and an equal journal; model files are shared."""
        root.mkdir(parents=True)
        for file in self.root.glob("*.db*"):
            shutil.copyfile(file, root / file.name)
        return BenchHome(root, reference or self.reference)

    @contextmanager
    def store(self) -> Iterator[Store]:
        """Its database, opened for the block."""
        log_store = open_store(self.home.settings.log_url)
        try:
            yield log_store
        finally:
            log_store.close()

    def environment(self, changes: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of its processes."""
        base = {k: v for k, v in os.environ.items() if not k.startswith(_FOREIGN)}
        return self.home.environment(base=base) | dict(changes or {})

    def service(self, port: int, changes: Mapping[str, str] | None = None) -> Child:
        """Start the Bento, with one worker as in production."""
        argv = [program("bentoml"), "serve", SERVICE, "--host", "127.0.0.1", "--port", str(port)]
        return self._start(
            "service", [*argv, "--working-dir", str(PROJECT)], changes, f"http://127.0.0.1:{port}/readyz"
        )

    def scribe(self, shadow: bool = True, changes: Mapping[str, str] | None = None) -> Child:
        """Start what ships the spool and scores the shadow."""
        argv = [sys.executable, "-m", "bentos.scribe", *([] if shadow else ["--no-shadow"])]
        return self._start("scribe", argv, changes)

    def _start(self, name: str, argv: list[str], changes: Mapping[str, str] | None, health: str | None = None) -> Child:
        self.home.make()
        base = self.environment(changes)
        # What a profile wants to be imported first stands before the project.
        first = [base["PYTHONPATH"]] if changes and "PYTHONPATH" in changes else []
        environment = base | {"PYTHONPATH": os.pathsep.join([*first, str(PROJECT)])}
        return Child(Command(f"{self.root.name}-{name}", argv, environment, self.home.logs / f"{name}.log", health))
