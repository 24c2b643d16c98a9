"""``incumbent status --deep``: look once at everything, within five seconds, without changing anything."""

from __future__ import annotations

import os
import textwrap
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bentos.errors import IncumbentError
from flows.errors import FlowError
from flows.health.checks import run_checks
from flows.health.look import HealthContext, HealthFinding
from monitoring.core.deadline import run_within
from monitoring.errors import MonitoringError
from monitoring.exporter.dependencies import Dependency, probe_all

if TYPE_CHECKING:
    from bentos.settings import Settings
    from flows.workspace.installation import Home
    from monitoring.store import Store

_ASK_S: Final = 1.0
_MOST_PATIENCE: Final = 6.0
_WIDTH: Final = 110
_SIGNS: Final = {"ok": "well ", "wrong": "WRONG", "not looked at": "-    "}


def deep_status(reference: str | None = None) -> dict[str, HealthFinding]:
    """Return what every check finds, by name.

    Args:
        reference: name or file of one use case; none looks at every one that runs in the home.

    Raises:
        UseCaseError, SettingsError: the use case or a variable is wrong.
        FlowRefused: the file that lists the use cases of the home cannot be read.
    """
    return run_checks(open_contexts(reference))


def open_contexts(reference: str | None = None) -> list[HealthContext]:
    """Return what is looked at, one for each use case: home, first answers, and the database where it can be read."""
    from flows.workspace.roster import current_name, open_named_home

    home = open_named_home(reference)
    usecases = _usecases_of(home, reference)
    try:
        home.enter(make=False)
    except (IncumbentError, FlowError):  # a login that cannot be read is a finding, not the end
        os.environ.update({"PREFECT_API_URL": url} if (url := home.live_addresses().get("prefect")) else {})
    settings, patience = home.settings, _patience()
    dependencies = _ask(settings, patience)
    store = _open(settings, patience) if dependencies["database"].up else None
    common = (store, dependencies, datetime.now(UTC), dict(os.environ), patience)
    return [
        HealthContext(settings.model_copy(update={"usecase": file}), usecase, *common, name=current_name(home, usecase))
        for usecase, file in usecases.items()
    ]


def _usecases_of(home: Home, reference: str | None) -> dict[str, str]:
    """Name and reference of each use case that is looked at: the one that is named, else all that run in the home."""
    from bentos.usecase.loading import load_usecase
    from flows.stack.state_file import read_state
    from flows.workspace.roster import read_roster

    if not reference:
        if active := read_roster(home).active:
            return active
        state = read_state(home.addresses)
        if state is not None and state.usecase and "INCUMBENT_USECASE" not in os.environ:
            return {state.usecase: state.reference}
    return {load_usecase(home.settings.usecase).name: home.settings.usecase}


def _patience() -> float:
    """How busy the machine is: how long this process has lived for each second of processor that it was given."""
    cpu_seconds = time.process_time()
    return min(_MOST_PATIENCE, max(1.0, _age() / cpu_seconds)) if cpu_seconds > 0 else 1.0


def _age() -> float:
    """Seconds since this process began."""
    try:
        began = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return 0.0
    return time.clock_gettime(time.CLOCK_BOOTTIME) - began


def _ask(settings: Settings, patience: float) -> dict[str, Dependency]:
    probes = probe_all(
        database_url=settings.log_url,
        mlflow_uri=settings.registry_uri,
        prefect_url=os.environ.get("PREFECT_API_URL", ""),
        redis_url=settings.redis_url,
        timeout_s=_ASK_S * patience,
    )
    return {probe.name: probe for probe in probes}


def _open(settings: Settings, patience: float) -> Store | None:
    """The database where its tables are those of this program; it is not upgraded."""
    from monitoring.store import open_store
    from monitoring.store.database.engine import Database
    from monitoring.store.database.migrate import read_schema

    def open_current() -> Store | None:
        database = Database(settings.log_url, busy_ms=1000)
        try:
            if read_schema(database).state not in ("current", "ahead"):
                return None
        except MonitoringError:
            return None
        finally:
            database.dispose()
        try:
            return open_store(settings.log_url, busy_seconds=1.0)
        except MonitoringError:
            return None

    return run_within({"store": open_current}, _ASK_S * patience).get("store")


def text_of(findings: Mapping[str, HealthFinding]) -> str:
    """One line for each check, wrapped; below what is wrong stands what to do."""
    width = max(map(len, findings))
    lines = []
    for name, finding in findings.items():
        head = f"{_SIGNS[finding.state]} {name.ljust(width)}  "
        text = finding.text if finding.state != "not looked at" else f"not looked at: {finding.text}"
        lines += textwrap.wrap(text, _WIDTH, initial_indent=head, subsequent_indent=" " * len(head))
        if finding.todo:
            lines += textwrap.wrap(
                f"-> {finding.todo}", _WIDTH, initial_indent=" " * len(head), subsequent_indent=" " * (len(head) + 3)
            )
    failing = [name for name, finding in findings.items() if finding.state == "wrong"]
    lines.append("")
    lines.append(f"wrong: {', '.join(failing)}" if failing else "all is well")
    return "\n".join(lines)
