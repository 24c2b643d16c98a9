"""The local stack: Prefect server and worker, the Bento service, the scribe, the exporter, the reports folder.

``incumbent up`` and ``incumbent demo`` start it, wait until each part is healthy, and stop it again.
MLflow needs no process here: its store is a SQLite file and a folder inside the home.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from bentos.settings import Settings
from flows.errors import PortTaken, StackError
from flows.home import PROJECT, Home
from flows.processes import (
    Child,
    Command,
    answers,
    born,
    end_group,
    ending_by_exception,
    free_port,
    last_lines,
    stop_all,
)

POOL = "incumbent"
"""Name of the Prefect work pool; one process worker serves it."""
SERVICE = "bentos.service:Incumbent"

_ANY = ("0.0.0.0", "::")  # noqa: S104  # compared with, never a default

Notice = Callable[[str], None]
"""Called with the name of each part that became ready."""


@dataclass(frozen=True)
class Ports:
    """Where the parts listen, all on ``host``."""

    prefect: int
    service: int
    reports: int
    host: str = "127.0.0.1"
    exporter: int = 0

    @classmethod
    def find(cls, settled: bool = False, host: str = "127.0.0.1") -> Ports:
        """Free ports; ``settled`` prefers the customary ones, which people may have bookmarked."""
        wanted = (4200, 3000, 8900, 9109) if settled else (None, None, None, None)
        prefect, service, reports, exporter = (free_port(port, host) for port in wanted)
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
        chosen = os.environ.get("INCUMBENT_REPORTS_URL")
        return chosen or (
            f"http://{socket.gethostname()}:{self.reports}" if self.everywhere else self.url(self.reports)
        )

    @property
    def urls(self) -> dict[str, str]:
        """Address of each part, by name, as written to the addresses file."""
        return {
            "prefect": f"{self.url(self.prefect)}/api",
            "service": self.url(self.service),
            "reports": self.url(self.reports),
            "exporter": self.url(self.exporter),
        }


@dataclass
class Stack:
    """The running parts. Use :func:`running`, which always stops what it started.

    Attributes:
        home: where their state and their logs are.
        ports: where they listen.
        outlive: whether they may be left running on purpose (:meth:`leave`).
        children: what was started, in order.
    """

    home: Home
    ports: Ports
    outlive: bool = False
    children: list[Child] = field(default_factory=list)

    @property
    def urls(self) -> dict[str, str]:
        """Address of each part, by name."""
        return self.ports.urls

    @property
    def environment(self) -> dict[str, str]:
        """Environment of every part, and of whoever talks to them."""
        return self.home.environment(prefect_url=self.urls["prefect"], reports_url=self.ports.link_base)

    def start_prefect(self) -> Child:
        """Start the server; it needs 7 to 15 seconds, so others may work meanwhile."""
        port, host = str(self.ports.prefect), self.ports.host
        return self._start("prefect-server", [program("prefect"), "server", "start", "--host", host, "--port", port],
                           health=f"{self.urls['prefect']}/health")  # fmt: skip

    def start_worker(self) -> Child:
        """Make the work pool, deploy everything in ``prefect.yaml``, start one process worker.

        Raises:
            FlowRefused: promotions need approval, and the server would let anybody approve.
        """
        self._guard_approvals()
        self.prefect("work-pool", "create", POOL, "--type", "process", "--overwrite")
        self.prefect("--no-prompt", "deploy", "--all", "--prefect-file", str(PROJECT / "prefect.yaml"))
        return self._start("prefect-worker", [program("prefect"), "worker", "start", "--pool", POOL, "--name", "local"])

    def _guard_approvals(self) -> None:
        from bentos.usecase import load_usecase

        if load_usecase(self.home.settings.usecase).promotion.approval == "required":
            from flows.approval import require_guarded_server

            require_guarded_server(self.ports.host)

    def start_service(self, *, vacant: bool = False) -> Child:
        """Start the Bento; it is ready once a verified champion is loaded and the windows are warm.

        Args:
            vacant: be content with a service that lives, because nobody may be in office yet.
        """
        port, host = str(self.ports.service), self.ports.host
        return self._start(
            "service",
            [program("bentoml"), "serve", SERVICE, "--host", host, "--port", port, "--working-dir", str(PROJECT)],
            health=f"{self.urls['service']}/{'livez' if vacant else 'readyz'}",
        )

    def await_office(self, patience: float = 120.0) -> None:
        """Wait until the running service has a champion in office and warm windows.

        Raises:
            StackNotReady: it has none in time; the message names its log file.
        """
        child = next(child for child in self.children if child.command.name == "service")
        child.wait_until(lambda: answers(f"{self.urls['service']}/readyz"), patience)

    def start_scribe(self) -> Child:
        """Start what ships the spool to the database and scores the challenger."""
        return self._start("scribe", [sys.executable, "-m", "bentos.scribe"])

    def start_exporter(self) -> Child:
        """Serve what the database tells as Prometheus metrics."""
        port, host = str(self.ports.exporter), self.ports.host
        argv = [sys.executable, "-m", "monitoring.exporter", "--host", host, "--port", port]
        return self._start("exporter", argv, health=f"{self.urls['exporter']}/livez")

    def start_reports(self) -> Child:
        """Serve the reports folder, so that links in artifacts open from elsewhere."""
        folder = str(self.home.settings.reports)
        port, host = str(self.ports.reports), self.ports.host
        argv = [sys.executable, "-m", "http.server", port, "--bind", host, "--directory", folder]
        return self._start("reports", argv, health=self.urls["reports"])

    def prefect(self, *words: str) -> None:
        """Run one command of Prefect against our server.

        Raises:
            StackError: when it fails; the message names its log file.
        """
        log = self.home.logs / "prefect-commands.log"
        with log.open("ab") as out:
            done = subprocess.run(
                [program("prefect"), *words], env=self.environment, stdin=subprocess.DEVNULL, stdout=out,
                stderr=subprocess.STDOUT, check=False, timeout=180,
            )  # fmt: skip
        if done.returncode != 0:
            raise StackError(
                f"prefect {' '.join(words[:3])} failed; look at {log}. Its last words: {last_lines(log, 3)}"
            )

    def publish(self) -> None:
        """Write the addresses, so that other commands find the stack."""
        parts = {child.command.name: {"pid": child.pid, "born": born(child.pid)} for child in self.children}
        content = {"urls": self.urls, "parts": parts}
        self.home.addresses.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    def check(self) -> None:
        """Raise :class:`StackError` when a part has ended; the message names its log file."""
        for child in self.children:
            child.require_alive()

    def stop(self) -> None:
        """Stop every part and remove the addresses; parts that were left running stay."""
        children, self.children = self.children, []
        if children:
            stop_all(children)
            self.home.addresses.unlink(missing_ok=True)

    def leave(self) -> None:
        """Let every part go on without us; ``incumbent down`` stops them later."""
        self.publish()
        self.children = []

    def _start(self, name: str, argv: Sequence[str], health: str | None = None) -> Child:
        command = Command(name, argv, self.environment, self.home.logs / f"{name}.log", health, outlive=self.outlive)
        child = Child(command)
        self.children.append(child)
        return child

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


@contextlib.contextmanager
def running(home: Home, ports: Ports, *, outlive: bool = False) -> Iterator[Stack]:
    """A stack whose parts the caller starts; all are stopped however the block is left.

    Raises:
        PortTaken: another stack is up in this home.
    """
    if home.known_addresses():
        raise PortTaken(f"a stack is already up in {home.root} (see {home.addresses}); stop it first")
    home.make()
    with ending_by_exception(), Stack(home, ports, outlive) as stack:
        yield stack


def start_all(stack: Stack, notice: Notice) -> None:
    """Start every part and wait until all are healthy.

    The service counts as healthy while nobody is in office: then it answers its probes, and scores as
    soon as a first model is.

    Raises:
        StackError: when a part ends or is not ready in time.
    """
    server = stack.start_prefect()
    parts = [stack.start_reports(), stack.start_scribe(), stack.start_service(vacant=True), stack.start_exporter()]
    server.wait_ready()
    notice("Prefect server")
    parts.append(stack.start_worker())
    for child in parts:
        child.wait_ready()
        notice(child.command.name)
    stack.publish()


def stop_left_running(home: Home) -> list[str]:
    """Stop what an earlier run left up in this home; the names of the parts that were there."""
    parts = home.left_running()
    names = [name for name, (pid, birth) in reversed(parts.items()) if end_group(pid, birth)]
    home.addresses.unlink(missing_ok=True)
    return names


def program(name: str) -> str:
    """Path of a console script of this Python environment, which need not be on ``PATH``."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.is_file() else shutil.which(name)
    if found is None:
        raise StackError(f"the program {name!r} is not installed beside {sys.executable}; run 'make setup'")
    return found


def demo_home(home: Home) -> Home:
    """The home of the demo, inside the given one: a demo never touches real state."""
    settings: Settings = home.settings.model_copy(
        update={"home": home.root / "demo", "database_url": "", "mlflow_uri": "", "prefect_database_url": ""}
    )
    return Home(settings)
