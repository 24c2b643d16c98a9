"""The parts of the local stack as a table: name, command, address, health, and when each is started again.

A service and its scribe stand there once for each use case; everything else exists once. To add a part, add a
row to :func:`parts_of`: the supervisor, ``status`` and the addresses file take it from there.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flows.errors import StackError
from flows.stack.liveness import LivenessLimit
from flows.workspace.installation import PROJECT, Home
from flows.workspace.processes import free_port

POOL = "incumbent"
"""Name of the Prefect work pool; one process worker serves it."""
SERVICE = "bentos.service:Incumbent"

_ANY = ("0.0.0.0", "::")  # noqa: S104  # compared with, never a default


def exporter_host() -> str:
    """Where the exporter listens. It asks nobody for a login, so it follows ``INCUMBENT_EXPORTER_HOST`` alone."""
    return os.environ.get("INCUMBENT_EXPORTER_HOST") or "127.0.0.1"


@dataclass(frozen=True)
class Ports:
    """Where the parts listen, all but the exporter on ``host``; ``services``: those of further use cases, by name."""

    prefect: int
    service: int
    reports: int
    host: str = "127.0.0.1"
    exporter: int = 0
    services: dict[str, int] = field(default_factory=dict)

    @classmethod
    def find(cls, settled: bool = False, host: str = "127.0.0.1") -> Ports:
        """Free ports; ``settled`` prefers the customary ones, which people may have bookmarked."""
        preferred = (4200, 3000, 8900, 9109) if settled else (None, None, None, None)
        prefect, service, reports = (free_port(port, host) for port in preferred[:3])
        exporter = free_port(preferred[3], exporter_host())
        return cls(prefect, service, reports, host, exporter)

    def url(self, port: int) -> str:
        """Where this machine reaches a part."""
        return f"http://{'127.0.0.1' if self.everywhere else self.host}:{port}"

    @property
    def everywhere(self) -> bool:
        """Whether every address of this machine is listened on."""
        return self.host in _ANY

    @property
    def link_base(self) -> str:
        """Where a browser, perhaps on another machine, reaches the reports."""
        base = os.environ.get("INCUMBENT_REPORTS_URL")
        return base or (f"http://{socket.gethostname()}:{self.reports}" if self.everywhere else self.url(self.reports))

    @property
    def urls(self) -> dict[str, str]:
        """Address of each part, by name, as written to the addresses file."""
        return {
            "prefect": f"{self.url(self.prefect)}/api",
            "service": self.url(self.service),
            "reports": self.url(self.reports),
            "exporter": f"http://{'127.0.0.1' if exporter_host() in _ANY else exporter_host()}:{self.exporter}",
            **{part_name("service", usecase): self.url(port) for usecase, port in self.services.items()},
        }

    @property
    def numbers(self) -> dict[str, int]:
        """Port of each part that listens, by kind, as written to the addresses file."""
        ports = {"prefect": self.prefect, "service": self.service, "reports": self.reports, "exporter": self.exporter}
        return ports | {part_name("service", usecase): port for usecase, port in self.services.items()}

    @classmethod
    def of(cls, host: str, numbers: Mapping[str, int]) -> Ports:
        """The ports that an addresses file names."""
        prefix = part_name("service", " ").rstrip()
        services = {name.removeprefix(prefix): port for name, port in numbers.items() if name.startswith(prefix)}
        plain = {name: port for name, port in numbers.items() if not name.startswith(prefix)}
        return cls(host=host, services=services, **plain)


@dataclass(frozen=True)
class Restarts:
    """When a part that ended by itself is started again.

    Attributes:
        first_pause: seconds before the first new start; each further one within the window waits twice as long.
        longest_pause: seconds that no pause exceeds.
        limit: ends within the window after which the part is given up; none never gives up.
        window: seconds that an end counts.
    """

    first_pause: float = 1.0
    longest_pause: float = 60.0
    limit: int | None = 5
    window: float = 600.0

    def pause(self, ends: int) -> float | None:
        """Seconds to wait after so many ends within the window, at least one; none gives the part up."""
        if self.limit is not None and ends > self.limit:
            return None
        return float(min(self.longest_pause, self.first_pause * 2.0 ** min(ends - 1, 16)))


NEVER_GIVEN_UP = Restarts(longest_pause=30.0, limit=None)
"""Scoring comes first: while nobody answers, every new start is worth a try."""


LIVENESS = LivenessLimit()
SCORING_LIVENESS = LivenessLimit(spare_busy=True)
"""A service that is merely busy is never ended: that would lose what it is about to answer."""


@dataclass(frozen=True)
class Part:
    """One row of the table.

    Attributes:
        name: unique in the stack; also the name of its log file.
        argv: program and arguments.
        port: where it listens, on the stack's host; none does not listen.
        health: answers 2xx once it is ready; none means ready when started.
        after: part that must be ready (or done) before this one is started.
        once: a job: it is done when it ends with code 0, and started again when it fails.
        environment: variables beside those of the stack.
        prefect_login: whether it gets the password of the Prefect server; who has it can run code as the worker.
        restarts: when it is started again.
        liveness: how long it may leave its health address unanswered, once it was ready.
    """

    name: str
    argv: Sequence[str]
    port: int | None = None
    health: str | None = None
    after: str | None = None
    once: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    prefect_login: bool = False
    restarts: Restarts = Restarts()
    liveness: LivenessLimit = LIVENESS


def parts_of(home: Home, ports: Ports) -> list[Part]:
    """Every part of the stack, in the order of their start; they are stopped in the reverse order."""
    return [
        _prefect_server(ports),
        _reports(ports),
        scribe(),
        service(ports),
        _exporter(ports),
        notifier(),
        deployments(),
        _prefect_worker(),
    ]


def usecase_parts(ports: Ports, references: Mapping[str, str]) -> list[Part]:
    """The parts of the further use cases of a stack, in the order of their start.

    Args:
        ports: names those use cases, with the port of each one's service.
        references: name or file of each, by name.
    """
    return [
        part
        for name, port in ports.services.items()
        for reference in [references.get(name, name)]
        for part in (
            scribe(name, reference),
            service(ports, name, port, reference),
            deployments(name, reference),
            notifier(name, reference),
        )
    ]


def service(ports: Ports, usecase: str = "", port: int | None = None, reference: str = "") -> Part:
    """The Bento of one use case; it lives while no model is active, and then waits for a first champion.

    Args:
        ports: where parts listen.
        usecase: name of the use case for the part's own name; empty is the only one of the stack.
        port: its own port; none takes the stack's port of the service.
        reference: name or file of the use case.
    """
    own_port = port or ports.service
    argv = [program("bentoml"), "serve", SERVICE, "--host", ports.host, "--port", str(own_port)]
    return Part(
        part_name("service", usecase), [*argv, "--working-dir", str(PROJECT)], own_port, f"{ports.url(own_port)}/livez",
        environment=_usecase(reference), restarts=NEVER_GIVEN_UP, liveness=SCORING_LIVENESS,
    )  # fmt: skip


def scribe(usecase: str = "", reference: str = "") -> Part:
    """What ships the spool of one use case to the database and scores its challenger."""
    argv = [sys.executable, "-m", "bentos.scribe"]
    return Part(part_name("scribe", usecase), argv, environment=_usecase(reference))


def notifier(usecase: str = "", reference: str = "") -> Part:
    """What tells people of one use case, and of the stack, what happened."""
    argv = [sys.executable, "-m", "flows.cli", "notify", "--follow"]
    return Part(part_name("notifier", usecase), argv, environment=_usecase(reference), prefect_login=True)


def deployments(usecase: str = "", reference: str = "") -> Part:
    """The job that makes the work pool and deploys the flows of one use case."""
    argv = [sys.executable, "-m", "flows.stack.deployments"]
    name = part_name("deployments", usecase)
    # One after the other: Prefect's SQLite takes one writer, and the first makes the work pool.
    after = "deployments" if usecase else "prefect-server"
    return Part(name, argv, after=after, once=True, environment=_usecase(reference), prefect_login=True)


def part_name(kind: str, usecase: str = "") -> str:
    """Name of a part that exists once for each use case: ``service``, or ``service-fraud``."""
    return f"{kind}-{usecase}" if usecase else kind


def _prefect_server(ports: Ports) -> Part:
    argv = [sys.executable, "-m", "flows.workspace.prefect_server", "--host", ports.host, "--port", str(ports.prefect)]
    return Part("prefect-server", argv, ports.prefect, f"{ports.urls['prefect']}/health", prefect_login=True)


def _prefect_worker() -> Part:
    argv = [program("prefect"), "worker", "start", "--pool", POOL, "--name", "local"]
    return Part("prefect-worker", argv, after="deployments", prefect_login=True)


def _exporter(ports: Ports) -> Part:
    argv = [sys.executable, "-m", "monitoring.exporter", "--host", exporter_host(), "--port", str(ports.exporter)]
    return Part("exporter", argv, ports.exporter, f"{ports.urls['exporter']}/livez")


def _reports(ports: Ports) -> Part:
    argv = [sys.executable, "-m", "flows.console", "--host", ports.host, "--port", str(ports.reports)]
    return Part("reports", argv, ports.reports, f"{ports.urls['reports']}/livez")


def _usecase(reference: str) -> dict[str, str]:
    return {"INCUMBENT_USECASE": reference} if reference else {}


def program(name: str) -> str:
    """Path of a console script of this Python environment, which need not be on ``PATH``."""
    script = Path(sys.executable).parent / name
    path = str(script) if script.is_file() else shutil.which(name)
    if path is None:
        raise StackError(f"the program {name!r} is not installed beside {sys.executable}; run 'make setup'")
    return path
