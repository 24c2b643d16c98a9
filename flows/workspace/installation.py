"""The environment of every process that Incumbent starts.

Prefect, MLflow and BentoML each keep state in a home of their own, by default in the user's home
folder. Here all of them live inside ``INCUMBENT_HOME``, so that deleting one folder removes
everything and a user's own profiles are never read or written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bentos.settings import Settings, read_settings
from flows.workspace.logins import CLIENT_AUTH, CONSIDERED, SERVER_AUTH, prefect_login_file, read_prefect_login
from monitoring.core.durations import format_duration

PROJECT = Path(__file__).resolve().parents[2]
"""The folder with ``prefect.yaml``: the repository, or site-packages of an installed copy."""

QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "BENTOML_DO_NOT_TRACK": "True",
}
"""Telemetry switches of the libraries."""

# A profile, an address or a metrics folder of the user's own must not leak in; how things are logged may.
_FOREIGN = ("PREFECT_", "PROMETHEUS_MULTIPROC_DIR")
_PASSED_ON = "PREFECT_LOGGING_"
_CREDENTIALS = ("PREFECT_API_KEY", CLIENT_AUTH)

DRIFT_EVENT = "model.drift.detected"
"""Sent by each drift check that raises an alarm; the retraining deployment is triggered by it."""
PURPOSES = ("training", "monitoring", "release", "inference", "labels")
"""Tags that group deployments in the Prefect UI."""


@dataclass(frozen=True)
class Home:
    """Folders and addresses of one installation's state.

    Attributes:
        settings: names, environment and the root folder.
    """

    settings: Settings

    @property
    def root(self) -> Path:
        """``INCUMBENT_HOME``, absolute."""
        return self.settings.root

    @property
    def prefect(self) -> Path:
        """Prefect's profiles, database and caches."""
        return self.root / "prefect"

    @property
    def prefect_database(self) -> str:
        """SQLAlchemy URL of the Prefect server's database."""
        return self.settings.prefect_database_url or f"sqlite+aiosqlite:///{self.prefect / 'prefect.db'}"

    @property
    def logs(self) -> Path:
        """One log file for each process that was started."""
        return self.root / "logs"

    @property
    def run(self) -> Path:
        """Files that matter only while processes run: addresses, metric shards."""
        return self.root / "run"

    @property
    def addresses(self) -> Path:
        """Written by the stack that is up, read by every command; absent while none is."""
        return self.run / "stack.json"

    def make(self) -> None:
        """Create the folders that libraries expect to exist."""
        for folder in (self.prefect, self.logs, self.run, self.root / "tmp", self.settings.reports):
            folder.mkdir(parents=True, exist_ok=True)

    def environment(
        self,
        *,
        prefect_url: str | None = None,
        prefect_login: str | None = None,
        reports_url: str | None = None,
        base: Mapping[str, str] | None = None,
    ) -> dict[str, str]:
        """The complete environment of a child process.

        Args:
            prefect_url: API of the Prefect server, ``http://host:port/api``; none leaves flows untracked.
            prefect_login: what that server asks for, ``user:password``; none takes what was given for its address.
            reports_url: address that serves the reports folder; none keeps links as file paths.
            base: what to start from; the present process's environment by default.
        """
        inherited = os.environ if base is None else base
        variables = {name: value for name, value in inherited.items() if not _is_foreign(name)}
        variables.pop(CLIENT_AUTH, None)
        if prefect_login is not None:
            variables[CLIENT_AUTH] = prefect_login
        elif prefect_url == inherited.get("PREFECT_API_URL"):
            # They go to the server that they were given for, and to no other; a key is for a named server alone.
            credentials = _CREDENTIALS if prefect_url is not None else (CLIENT_AUTH,)
            variables |= {name: inherited[name] for name in credentials if name in inherited}
        return {**variables, **QUIET, **self._places(), **self._names(prefect_url, reports_url)}

    def _places(self) -> dict[str, str]:
        root, settings = self.root, self.settings
        return {
            "PREFECT_HOME": str(self.prefect),
            "PREFECT_PROFILES_PATH": str(self.prefect / "profiles.toml"),
            "PREFECT_API_DATABASE_CONNECTION_URL": self.prefect_database,
            "BENTOML_HOME": str(root / "bentoml"),
            "MLFLOW_TRACKING_URI": settings.registry_uri,
            "MLFLOW_REGISTRY_URI": settings.registry_uri,
            "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
            "MPLCONFIGDIR": str(root / "cache" / "matplotlib"),
            **_temporary(root),
        }

    def _names(self, prefect_url: str | None, reports_url: str | None) -> dict[str, str]:
        names = {
            "INCUMBENT_HOME": str(self.root),
            # Empty is the default inside the home: a demo's processes must not find the user's own databases.
            "INCUMBENT_DATABASE_URL": self.settings.database_url,
            "INCUMBENT_MLFLOW_URI": self.settings.mlflow_uri,
            "INCUMBENT_PREFECT_DATABASE_URL": self.settings.prefect_database_url,
            "INCUMBENT_ENV": self.settings.env,
            "INCUMBENT_USECASE": usecase_reference(self.settings.usecase),
            "INCUMBENT_CLOCK": self.settings.clock,
            "INCUMBENT_MAX_FUTURE": format_duration(self.settings.max_future),
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            # A run costs about 90 KB in Prefect's database, which keeps everything unless told otherwise.
            "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
            "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(self.settings.run_days * 86_400),
        }
        if prefect_url is not None:
            names["PREFECT_API_URL"] = prefect_url
        if reports_url is not None:
            names["INCUMBENT_REPORTS_URL"] = reports_url
        return names

    def enter(self, environ: MutableMapping[str, str] | None = None, *, make: bool = True) -> None:
        """Make this process live in the home too; call before Prefect or MLflow is imported.

        Args:
            environ: variables to change; the present process's by default.
            make: whether missing folders of the home are made.
        """
        target = os.environ if environ is None else environ
        if make:
            self.make()
        addresses = self.live_addresses()
        variables = self.environment(
            prefect_url=addresses.get("prefect", target.get("PREFECT_API_URL")),
            prefect_login=self._stacks_login(target) if "prefect" in addresses else None,
            reports_url=target.get("INCUMBENT_REPORTS_URL", addresses.get("reports")),
            base=target,
        )
        for name in set(target) - set(variables):
            del target[name]
        target.update(variables)

    def _stacks_login(self, environ: Mapping[str, str]) -> str | None:
        # An older version's stack has none: `incumbent down` must still stop it.
        if not environ.get(SERVER_AUTH) and not prefect_login_file(self.root).exists():
            return None
        return read_prefect_login(self.root, environ)

    def live_addresses(self) -> dict[str, str]:
        """Addresses of the stack that is up, by name; empty while none is."""
        from bentos.home_lock import born

        # A stack that was killed leaves its file behind, and its process ids are used again.
        if not any(born(pid) == birth for pid, birth in self.left_running().values()):
            return {}
        return {str(name): str(url) for name, url in self._read_addresses().get("urls", {}).items()}

    def left_running(self) -> dict[str, tuple[int, str]]:
        """Process id and birth of each part by the addresses file, in the order of their start."""
        parts = self._read_addresses().get("parts", {})
        return {name: (int(part["pid"]), str(part["born"])) for name, part in parts.items() if part.get("pid")}

    def _read_addresses(self) -> dict[str, Any]:
        try:
            content = json.loads(self.addresses.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}


def _is_foreign(name: str) -> bool:
    return name.startswith(_FOREIGN) and not name.startswith(_PASSED_ON) and name not in CONSIDERED


def foreign_settings(environ: Mapping[str, str]) -> list[str]:
    """Names of Prefect's variables that are set and that a stack neither follows nor refuses."""
    return sorted(name for name in environ if name.startswith("PREFECT_") and _is_foreign(name))


def usecase_reference(usecase: str) -> str:
    """A use-case reference that means the same in any working directory."""
    return str(Path(usecase).absolute()) if usecase.endswith(".toml") else usecase


def open_home(**overrides: object) -> Home:
    """The home named by ``INCUMBENT_HOME`` and its companions; ``overrides`` win.

    Raises:
        SettingsError: when a variable holds something unusable.
    """
    return Home(read_settings(**overrides))


def deployment_values() -> dict[str, Any]:
    """Values that ``prefect.yaml`` puts into names and parameters, as a build step.

    A template like ``{{ $INCUMBENT_ENV }}`` stays empty where the variable is unset; a step can
    fill in the defaults, so that a bare ``prefect deploy --all`` gives the right names.
    """
    from bentos.usecase.loading import load_usecase

    home = open_home()
    reference = usecase_reference(home.settings.usecase)
    usecase = load_usecase(reference)
    if usecase.promotion.approval == "required":
        from flows.workspace.prefect_server import require_guarded_server

        require_guarded_server()
    common = [home.settings.env, usecase.name]
    return {
        "env": home.settings.env,
        # A template inside a list is dropped by Prefect; one that stands for a whole list is not.
        "tags": {purpose: [*common, purpose] for purpose in PURPOSES},
        "drift_events": [home.settings.event_name(DRIFT_EVENT)],
        "model_resource": f"model.{home.settings.model_name(usecase.name)}",
        "usecase": reference,
        "name": usecase.name,
        "timezone": usecase.timezone,
    }


def _temporary(root: Path) -> dict[str, str]:
    # Unix sockets live in the temporary folder and their paths end at 107 bytes.
    folder = root / "tmp"
    return {"TMPDIR": str(folder)} if len(str(folder)) < 60 else {}
