"""The MLflow model registry: the adapter of :class:`bentos.registry.ports.ModelRegistry`.

It is the only MLflow code that the image runs. A registered version is a native XGBoost model for
anyone with ``mlflow.xgboost.load_model``, and holds our three files (:mod:`bentos.model.scoring_model`) beside it.

MLflow's fluent functions work on a process-wide tracking URI and create a database in the working directory, so
everything goes through the client.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from bentos.errors import ExperimentDeleted, ModelCorrupt, RegistryUnavailable, RoleVacant, VersionMissing
from bentos.model.scoring_model import MODEL_FILES, ScoringModel
from bentos.registry.ports import ROLES, ModelRef, ModelRegistry, Role, RolesView, VersionInfo
from bentos.registry.routing_policy import ROUTING_TAG, RoutingPolicy

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

    from bentos.settings import Settings

__all__ = [
    "ROLES",
    "MlflowRegistry",
    "ModelRef",
    "ModelRegistry",
    "Role",
    "VersionInfo",
    "open_registry",
    "translate_errors",
]

_ENVIRONMENT: Final = {
    # MLflow's own are 7 retries and 120 s: a poll would hang for minutes on a dead registry.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "3",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


class MlflowRegistry:
    """The MLflow registry behind a tracking URI. Building one opens nothing.

    Only the client is used, never the fluent functions: those keep a process-wide tracking URI and
    create a database in the working directory when it is not set.

    Args:
        uri: tracking and registry URI, for example ``sqlite:////abs/mlflow.db`` or ``http://host:5000``.
        artifacts: folder of artefacts for a database URI; a server decides its own.
    """

    def __init__(self, uri: str, artifacts: Path | None = None) -> None:
        self.uri = uri
        self.artifacts = artifacts
        self._lock = Lock()

    @cached_property
    def _opened(self) -> MlflowClient:
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from mlflow.tracking import MlflowClient

        # Creating the tables logs every migration.
        for logger_name in ("mlflow", "alembic"):
            logging.getLogger(logger_name).setLevel(logging.WARNING)
        with _lock_database(self.uri):
            return MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)

    @property
    def client(self) -> MlflowClient:
        """The MLflow client; made on first use, once for all threads."""
        with self._lock:
            return self._opened

    def resolve(self, name: str, alias: str) -> ModelRef:
        """See :class:`ModelRegistry`."""
        aliases, _ = self._look(name)
        if alias not in aliases:
            raise RoleVacant(
                f"{name} has no @{alias}; train a model, or promote a version; if it had one: incumbent status"
            )
        return ModelRef(name, aliases[alias])

    def roles(self, name: str) -> dict[Role, ModelRef]:
        """See :class:`ModelRegistry`; one look-up, about 2-6 ms on SQLite."""
        return dict(self.look(name).roles)

    def look(self, name: str) -> RolesView:
        """See :class:`ModelRegistry`; aliases and tags are parts of one row."""
        aliases, tags = self._look(name)
        roles = {role: ModelRef(name, aliases[role]) for role in ROLES if role in aliases}
        return RolesView(roles, tags.get(ROUTING_TAG))

    def routing(self, name: str) -> RoutingPolicy | None:
        """See :class:`ModelRegistry`."""
        text = self.look(name).routing
        return None if text is None else RoutingPolicy.from_text(text)

    def set_routing(self, name: str, policy: RoutingPolicy | None) -> None:
        """See :class:`ModelRegistry`; one atomic write."""
        with translate_errors(name):
            if policy is not None:
                self.client.set_registered_model_tag(name, ROUTING_TAG, policy.to_text())
            elif ROUTING_TAG in self.client.get_registered_model(name).tags:
                self.client.delete_registered_model_tag(name, ROUTING_TAG)

    def point(self, name: str, alias: str, version: str) -> None:
        """See :class:`ModelRegistry`; one atomic write."""
        with translate_errors(f"{name}/{version}"):
            self.client.set_registered_model_alias(name, alias, str(version))

    def clear(self, name: str, alias: str) -> None:
        """See :class:`ModelRegistry`."""
        try:
            with translate_errors(name):
                self.client.delete_registered_model_alias(name, alias)
        except VersionMissing:
            return

    def describe(self, ref: ModelRef) -> VersionInfo:
        """See :class:`ModelRegistry`."""
        with translate_errors(ref.label):
            return _version_info(self.client.get_model_version(ref.name, ref.version))

    def versions(self, name: str) -> list[VersionInfo]:
        """See :class:`ModelRegistry`."""
        infos, token = [], None
        with translate_errors(name):
            while True:
                page = self.client.search_model_versions(f"name = '{name}'", page_token=token)
                infos += [_version_info(row) for row in page]
                token = page.token
                if not token:
                    return sorted(infos, key=lambda info: int(info.ref.version))

    def fetch(self, ref: ModelRef, into: Path) -> Path:
        """See :class:`ModelRegistry`."""
        with translate_errors(ref.label):
            source = self.client.get_model_version_download_uri(ref.name, ref.version)
            into.mkdir(parents=True, exist_ok=True)
            for name in MODEL_FILES:
                self._copy(source, name, into, ref)
        return into

    def register(
        self,
        folder: Path,
        name: str,
        tags: Mapping[str, str] | None = None,
        run_id: str | None = None,
        description: str = "",
    ) -> ModelRef:
        """See :class:`ModelRegistry`. Without ``run_id`` a run named ``register`` is made for it."""
        model = ScoringModel.load(folder)
        with translate_errors(name):
            run = run_id or self.client.create_run(self.experiment(name), run_name="register").info.run_id
            source, model_id = self.store_files(model, folder, name, run)
            self.ensure_model(name)
            version_row = self.client.create_model_version(
                name, source, run, tags=dict(tags or {}), description=description, model_id=model_id
            )
            if run_id is None:
                self.client.set_terminated(run)
        return ModelRef(name, str(version_row.version))

    def restore(self, ref: ModelRef, folder: Path, tags: Mapping[str, str]) -> ModelRef:
        """See :class:`ModelRegistry`."""
        from bentos.registry.repair import create_version_numbered, revive_deleted_version

        with translate_errors(ref.label):
            run = self.client.create_run(self.experiment(ref.name), run_name=f"register {ref.label} again").info.run_id
            source, model_id = self.store_files(ScoringModel.load(folder), folder, ref.name, run)
            self.client.set_terminated(run)
            if revive_deleted_version(self.uri, ref, source, run):
                return ref
            self.ensure_model(ref.name)
            return create_version_numbered(self.client, ref, source, run, tags, model_id)

    def experiment(self, name: str) -> str:
        """The id of the experiment of that name, made on first use with its artefacts in our folder.

        Raises:
            ExperimentDeleted: it was deleted in MLflow; the message says how it comes back.
        """
        with translate_errors(name):
            existing = self.client.get_experiment_by_name(name)
            if existing is not None and existing.lifecycle_stage == "deleted":
                raise ExperimentDeleted(
                    f"the MLflow experiment {name!r} was deleted, so nothing can be trained or registered; versions "
                    "and roles are still there. To bring it back: incumbent db repair"
                )
            if existing is not None:
                return str(existing.experiment_id)
            artifact_uri = None if self.artifacts is None or _is_server(self.uri) else (self.artifacts / name).as_uri()
            return str(self.client.create_experiment(name, artifact_location=artifact_uri))

    def _look(self, name: str) -> tuple[dict[str, str], dict[str, str]]:
        """Aliases and tags of a model."""
        # search_model_versions() answers aliases=[]: only the registered model knows them.
        try:
            with translate_errors(name):
                model = self.client.get_registered_model(name)
        except VersionMissing:
            return {}, {}
        return {alias: str(v) for alias, v in model.aliases.items()}, dict(model.tags)

    def experiment_deleted(self, name: str) -> bool:
        """See :class:`ModelRegistry`."""
        with translate_errors(name):
            existing = self.client.get_experiment_by_name(name)
        return existing is not None and existing.lifecycle_stage == "deleted"

    def bring_back_experiment(self, name: str) -> None:
        """See :class:`ModelRegistry`."""
        with translate_errors(name):
            existing = self.client.get_experiment_by_name(name)
            if existing is not None and existing.lifecycle_stage == "deleted":
                self.client.restore_experiment(existing.experiment_id)

    def ensure_model(self, name: str) -> None:
        """Make the registered model where it is missing."""
        from mlflow.exceptions import MlflowException

        try:
            self.client.create_registered_model(name)
        except MlflowException as exc:
            if exc.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def store_files(self, model: ScoringModel, folder: Path, name: str, run_id: str) -> tuple[str, str]:
        """Upload MLflow's files and ours as one logged model; returns the source of a version, and the model's id."""
        from mlflow.entities import LoggedModelOutput

        logged_model = self.client.create_logged_model(self.experiment(name), name="model", source_run_id=run_id)
        try:
            with tempfile.TemporaryDirectory(prefix="incumbent-model-") as scratch:
                local = Path(scratch) / "model"
                _write_flavor(model, local, logged_model, run_id)
                for file in MODEL_FILES:
                    shutil.copyfile(folder / file, local / file)
                self.client.log_model_artifacts(logged_model.model_id, str(local))
        except BaseException:
            self.client.finalize_logged_model(logged_model.model_id, "FAILED")
            raise
        self.client.finalize_logged_model(logged_model.model_id, "READY")
        self.client.log_outputs(run_id, [LoggedModelOutput(logged_model.model_id, step=0)])
        # A server takes the id; a database would resolve it through the process-wide URI, which is not ours.
        source = f"models:/{logged_model.model_id}" if _is_server(self.uri) else logged_model.artifact_location
        return str(source), str(logged_model.model_id)

    def _copy(self, source: str, name: str, into: Path, ref: ModelRef) -> None:
        local = _local_path(source)
        try:
            if local is not None:
                shutil.copyfile(local / name, into / name)
                return
            from mlflow.artifacts import download_artifacts

            download_artifacts(f"{source.rstrip('/')}/{name}", dst_path=str(into), tracking_uri=self.uri)
        except FileNotFoundError as exc:
            raise ModelCorrupt(
                f"{ref.label} has no {name}: it was not registered by us, or its files are gone"
            ) from exc


def open_registry(settings: Settings) -> MlflowRegistry:
    """The registry that the settings name; nothing is opened yet."""
    return MlflowRegistry(settings.registry_uri, settings.artifacts)


def _write_flavor(model: ScoringModel, folder: Path, logged_model: Any, run_id: str) -> None:
    """Write what makes the version a native MLflow model of its library: signature, requirements, MLmodel."""
    with warnings.catch_warnings():
        # MLflow warns about its own type hints on the first save.
        warnings.simplefilter("ignore")
        from mlflow.models import Model, ModelSignature
        from mlflow.types import ColSpec, Schema

        signature = ModelSignature(
            inputs=Schema([ColSpec("float", name) for name in model.plan.names]),
            outputs=Schema([ColSpec("float", "score")]),
        )
        mlflow_model = Model(
            artifact_path=logged_model.artifact_location,
            model_uuid=logged_model.model_id,
            model_id=logged_model.model_id,
            run_id=run_id,
        )
        booster, flavor = model.booster, import_module(f"mlflow.{model.booster.mlflow_flavor}")
        flavor.save_model(
            booster.native,
            str(folder),
            mlflow_model=mlflow_model,
            signature=signature,
            # Without this MLflow guesses them by loading the model in another process, 5-9 s.
            pip_requirements=[booster.requirement()],
            **booster.mlflow_options,
        )


def _version_info(row: Any) -> VersionInfo:
    return VersionInfo(
        ref=ModelRef(row.name, str(row.version)),
        tags=dict(row.tags),
        created_at=datetime.fromtimestamp(row.creation_timestamp / 1000, tz=UTC),
        run_id=row.run_id or None,
        description=row.description or "",
    )


def _is_server(uri: str) -> bool:
    return urlsplit(uri).scheme in ("http", "https")


def _local_path(uri: str) -> Path | None:
    parts = urlsplit(uri)
    if parts.scheme == "file":
        from urllib.request import url2pathname

        return Path(url2pathname(parts.path))
    return Path(uri) if parts.scheme == "" else None


@contextmanager
def _lock_database(uri: str) -> Iterator[None]:
    """No other process of this machine opens the same SQLite database meanwhile.

    The first one to open it makes MLflow's tables, migration by migration; two at once fail.
    """
    if not uri.startswith("sqlite:///"):
        yield
        return
    database = Path(uri.removeprefix("sqlite:///"))
    database.parent.mkdir(parents=True, exist_ok=True)
    with database.with_name(f"{database.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def translate_errors(subject: str) -> Iterator[None]:
    """Turn errors of MLflow, its database and its network into ours."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except MlflowException as exc:
        if exc.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise VersionMissing(f"the registry has no {subject}: {str(exc.message).splitlines()[0]}") from exc
        raise RegistryUnavailable(f"the registry did not answer about {subject}: {exc.error_code}") from exc
    except (SQLAlchemyError, OSError) as exc:
        raise RegistryUnavailable(f"the registry did not answer about {subject}: {_reason(exc)}") from exc


def _reason(exc: Exception) -> str:
    # A disk error's text names the cause ("No space left on device"); a database's may hold SQL and values.
    return exc.strerror if isinstance(exc, OSError) and exc.strerror else type(exc).__name__
