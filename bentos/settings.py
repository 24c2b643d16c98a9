"""Settings of everything the image runs, read once from ``INCUMBENT_*`` variables.

Nothing here touches a disk: folders are made by whoever writes into them first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from bentos.errors import SettingsError
from monitoring.core.durations import Duration, parse_duration
from monitoring.core.hosts import parse_entries

Environment = Literal["dev", "staging", "prod"]


class Settings(BaseSettings):
    """Where state lives and how the service behaves."""

    model_config = SettingsConfigDict(
        env_prefix="INCUMBENT_", env_ignore_empty=True, frozen=True, extra="ignore", use_attribute_docstrings=True
    )

    home: Path = Path(".incumbent")
    """Folder of all state: databases, artefacts, spool, cache, reports."""
    env: Environment = "dev"
    """Prefix of model, deployment, event and database names; evidence never crosses it."""
    usecase: str = "fraud"
    """Name of a built-in use case or path of a TOML file."""
    database_url: str = ""
    """SQLAlchemy URL of the prediction log; empty is SQLite inside ``home``."""
    mlflow_uri: str = ""
    """MLflow tracking and registry URI; empty is SQLite inside ``home``."""
    prefect_database_url: str = ""
    """Database of the Prefect server, e.g. ``postgresql+asyncpg://...``; empty is SQLite inside ``home``."""
    run_days: int = Field(default=90, ge=1)
    """Days for which runs of flows are kept, in the ``runs`` table and in Prefect's history."""
    poll_seconds: float = Field(default=0.5, gt=0)
    """How often the aliases are looked up."""
    log_mode: Literal["available", "strict"] = "available"
    """At the spool's cap: count drops, or answer 503."""
    spool_cap_mb: int = Field(default=2048, ge=1)
    """Size of the spool at which the log mode decides."""
    spool_sync_seconds: float = Field(default=0.2, gt=0)
    """Longest time between two fsyncs: what a power loss may cost."""
    spool_rotate_mb: float = Field(default=16.0, gt=0)
    """Size at which a spool segment is closed."""
    spool_rotate_seconds: float = Field(default=5.0, gt=0)
    """Age at which a spool segment is closed."""
    redis_url: str = ""
    """Redis that keeps the windows of several replicas in step (``redis://``, ``rediss://``, ``unix://``); empty is
    one replica with windows of its own."""
    clock: Literal["machine", "stream"] = "machine"
    """What says what time it is: this machine's clock, or the newest events of a stream of another time (a replay)."""
    max_future: Duration = Field(default=parse_duration("1h"), validate_default=True)
    """How far ahead of ``clock`` the time of an event, label or action may lie; of a stream also its longest pause."""
    max_body_mb: float = Field(default=1.0, gt=0)
    """Largest request body."""
    max_batch: int = Field(default=1000, ge=1)
    """Most events in one batch request."""
    answered_horizon: Duration = Field(default=parse_duration("7d"), validate_default=True)
    """How long an answered event id is remembered for replays, in machine time."""
    max_concurrency: int = Field(default=512, ge=1)
    """Requests under way at once in one process; more are refused with 429."""
    body_seconds: float = Field(default=5.0, gt=0)
    """Longest time for a request's body to arrive."""
    max_list_events: int = Field(default=32_000, ge=1)
    """Events of lists that wait at once in one process; a list beyond them is refused with 429."""
    list_seconds: float = Field(default=5.0, gt=0)
    """Longest time from the arrival of a list to its answer; then it is given up with 504."""
    journal_required: bool = True
    """Whether a champion is served only when the journal of decisions holds its contract digest."""

    keys: str = ""
    """File of API keys; empty is ``keys.json`` inside ``home``."""
    keys_required: Literal["auto", "always"] = "auto"
    """``auto`` asks for keys unless the service listens on this machine alone; ``always`` asks in any case."""
    allowed_hosts: str = ""
    """Names of this machine's servers besides localhost, ``name`` or ``name:port`` divided by commas: a proxy's, say.

    A request with another Host is refused (:mod:`monitoring.core.hosts`); a service that asks for keys takes any.
    """
    console_token: SecretStr = SecretStr("")
    """Secret that opens the reports' pages, at least 16 characters; empty is ``console.token`` inside ``home``."""
    metrics_access: Literal["open", "admin"] = "open"
    """Where keys are needed: whether ``/metrics`` stays open or asks for the scope ``admin``."""
    metrics_place: str = ""
    """Folder for the files behind ``/metrics``, best in memory; empty is ``/dev/shm``, else ``/tmp``."""

    hash_key: SecretStr = SecretStr("")
    """Secret behind hashed ids, at least 32 characters; empty is the file ``hash.key`` inside ``home``."""

    notify_url: SecretStr = SecretStr("")
    """Who is told what happens: a webhook (http or https, a POST of JSON) or any address of Apprise; empty tells the
    log alone. See :mod:`flows.notify`."""
    prefect_ui_url: str = ""
    """Address at which people open Prefect, for links; empty follows from the API's address."""

    engine: Literal["single", "dask"] = "single"
    """Where models are trained and tables scored: in one process, or on a Dask cluster (extra ``dask``)."""
    scheduler: str = ""
    """Address of the Dask scheduler for ``engine = dask``, such as ``tcp://10.0.0.5:8786``."""

    prometheus_url: str = ""
    """Prometheus server that ``incumbent status`` asks for firing alerts; empty asks nobody."""

    @field_validator("allowed_hosts")
    @classmethod
    def _check_hosts(cls, hosts_text: str) -> str:
        parse_entries(hosts_text)
        return hosts_text

    @property
    def hash_key_file(self) -> Path:
        """File of the secret behind hashed ids; see :mod:`bentos.schema.id_hashing`."""
        return self.root / "hash.key"

    @property
    def keys_file(self) -> Path:
        """File of API keys; see :mod:`bentos.keys`."""
        return Path(self.keys).expanduser().absolute() if self.keys else self.root / "keys.json"

    @property
    def root(self) -> Path:
        """``home`` as an absolute path."""
        return self.home.expanduser().absolute()

    @property
    def log_url(self) -> str:
        """SQLAlchemy URL of the database that holds log, labels, decisions and reports."""
        return self.database_url or f"sqlite:///{self.root / f'{self.env}-log.db'}"

    @property
    def registry_uri(self) -> str:
        """MLflow URI of tracking and registry."""
        return self.mlflow_uri or f"sqlite:///{self.root / 'mlflow.db'}"

    @property
    def artifacts(self) -> Path:
        """Folder of MLflow artefacts."""
        return self.root / "artifacts"

    @property
    def snapshots(self) -> Path:
        """Folder of content-addressed data snapshots."""
        return self.root / "snapshots"

    @property
    def reports(self) -> Path:
        """Folder of HTML reports; `incumbent up` serves it."""
        return self.root / "reports"

    def spool(self, usecase: str) -> Path:
        """Folder of log records that are not yet in the database."""
        return self.root / "spool" / self.env / usecase

    def cache(self, usecase: str) -> Path:
        """Folder of the last verified models."""
        return self.root / "cache" / self.env / usecase

    def service_lock(self, usecase: str) -> Path:
        """File that the one service of a use case holds a lock on; see :mod:`bentos.home_lock`."""
        return self.root / "run" / f"service-{self.env}-{usecase}.lock"

    def lookups(self, usecase: str) -> Path:
        """Folder of the tables that fill columns by entity; see :mod:`bentos.schema.lookups`."""
        return self.root / "lookups" / self.env / usecase

    def model_name(self, usecase: str) -> str:
        """Name in the registry: ``dev-fraud``."""
        return f"{self.env}-{usecase}"

    def event_name(self, event: str) -> str:
        """Name of a Prefect event: ``dev.model.drift.detected``."""
        return f"{self.env}.{event}"

    def deployment_name(self, usecase: str, flow: str) -> str:
        """Name of a Prefect deployment: ``dev-fraud-training``."""
        return f"{self.env}-{usecase}-{flow}"

    def absolute_paths(self) -> dict[str, str]:
        """Return the variables that name paths, absolute: for processes that start in another folder."""
        paths = {"INCUMBENT_HOME": str(self.root), "INCUMBENT_KEYS": str(self.keys_file) if self.keys else ""}
        if self.usecase.endswith(".toml"):
            paths["INCUMBENT_USECASE"] = str(Path(self.usecase).absolute())
        return {name: value for name, value in paths.items() if value}


def read_settings(**overrides: object) -> Settings:
    """Read the environment; ``overrides`` win.

    Raises:
        SettingsError: with the variable's name, what it holds and what is allowed.
    """
    try:
        return Settings(**overrides)  # type: ignore[arg-type]  # values are checked by the model itself
    except ValidationError as exc:
        error = exc.errors(include_url=False)[0]
        name = f"INCUMBENT_{'_'.join(str(p) for p in error['loc']).upper()}"
        raise SettingsError(f"{name}: found {error['input']!r}; {error['msg']}") from exc
