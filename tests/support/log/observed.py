"""A small home under observation: real service, scribe, exporter and Prometheus, after a scripted run of traffic."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from tests.support.processes.servers import PROJECT, House, Server, event, free_port
from tests.support.processes.system import system_program
from tests.support.worlds import World, small_world

FOLDER = PROJECT / "monitoring" / "prometheus"
PATIENCE = 90.0


@dataclass(frozen=True)
class Observed:
    """Addresses of what runs, and the environment in which commands find it."""

    service: str
    exporter: str
    prometheus: str
    environment: dict[str, str]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """What Prometheus answers to an instant query."""
        found: list[dict[str, Any]] = self.api("query", query=expression)["result"]
        return found

    def api(self, what: str, **parameters: str) -> Any:
        """Data of Prometheus' HTTP API."""
        return json.loads(get(f"{self.prometheus}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"))["data"]


@contextlib.contextmanager
def observed(folder: Path) -> Iterator[Observed]:
    """The whole, ended afterwards.

    A model is trained and compared on a simulated world; then a service answers, and Prometheus, with the
    product's own rules, looks every second.
    """
    prometheus = system_program("prometheus", "prometheus")
    with contextlib.ExitStack() as stack:
        world = stack.enter_context(small_world(folder))
        live_a_week(world, folder)
        workspace = House(folder / "home")
        server = Server(workspace, INCUMBENT_USECASE=world.reference)
        stack.callback(lambda: server.stop() if server.process.poll() is None else None)
        environment = workspace.environment(INCUMBENT_USECASE=world.reference)
        port, watching = free_port(), free_port()
        run = _Children(stack, folder, environment)
        run(sys.executable, "-m", "bentos.scribe", "--no-shadow", "--poll", "0.1")
        run(sys.executable, "-m", "monitoring.exporter", "--port", str(port), INCUMBENT_EXPORTER_SECONDS="2")
        server.wait_ready()
        file = _config(folder, server.port, port)
        run(
            prometheus, f"--config.file={file}", f"--storage.tsdb.path={folder / 'series'}",
            f"--web.listen-address=127.0.0.1:{watching}",
        )  # fmt: skip
        seen = Observed(server.url, f"http://127.0.0.1:{port}", f"http://127.0.0.1:{watching}", environment)
        send_traffic(server, world.day(7), seen)
        yield seen


def live_a_week(world: World, folder: Path) -> None:
    """A champion, a challenger, seven answered days with labels, one check of drift and one comparison."""
    from flows.comparison import comparison
    from flows.drift import drift
    from flows.runs.parameters import LOG
    from flows.runs.run_record import call
    from flows.training import training

    call(training, usecase=world.reference, source=LOG, until=world.live_from, reason="a test")
    world.challenger(0.004, folder / "challenger")
    world.live(0, 7, shadow="2")
    call(drift, usecase=world.reference, as_of=world.day(7), html="never")
    call(comparison, usecase=world.reference, as_of=world.day(7), html="never")


def send_traffic(server: Server, start: datetime, seen: Observed) -> None:
    """Scores, a list, labels and mistakes, until Prometheus knows the rate of each."""
    number = 0

    def round_() -> bool:
        nonlocal number
        for _ in range(20):
            number += 1
            at = (start + timedelta(seconds=number)).isoformat()
            server.score(event(f"o-{number}", tx_time=at))
        server.client.post("/score/batch", json=[event(f"b-{number}-{i}", tx_time=at) for i in range(10)])
        server.post("/score", b'{"amount": NaN}')
        known = {"event_id": f"o-{number}", "label": 1, "observed_at": at, "source": "chargeback"}
        server.client.post("/labels", json=known)
        with contextlib.suppress(OSError):
            return all(seen.query(one) for one in _SEEN)
        return False

    until(round_)


_SEEN = (
    "incumbent:latency_seconds:p99 > 0",
    "incumbent:requests:rate5m > 0",
    "incumbent:burn_rate:rate6h",
    "incumbent:alert_ratio:rate5m",
    "rate(incumbent_received_labels_total[5m]) > 0",
    "rate(incumbent_refused_requests_total[5m]) > 0",
    "incumbent:cpu_ratio:rate5m > 0",
    "incumbent_scribe_lag_seconds",
    'incumbent_log_ledger_records_total{fate="stored"} > 0',
)


def until(happened: Callable[[], bool]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.3)


def get(address: str) -> str:
    """A page."""
    with urllib.request.urlopen(address, timeout=10) as answer:
        return str(answer.read().decode())


@dataclass
class _Children:
    """Starts processes that end with the stack."""

    stack: contextlib.ExitStack
    folder: Path
    environment: dict[str, str]
    started: int = 0

    def __call__(self, *words: str, **changes: str) -> None:
        log = self.stack.enter_context(
            (self.folder / f"{Path(words[0]).name}-{words[-1][-12:]}.log".replace("/", "-")).open("wb")
        )
        process = subprocess.Popen(
            words, cwd=PROJECT, env=self.environment | changes, stdout=log, stderr=subprocess.STDOUT
        )
        self.stack.callback(process.wait, 30)
        self.stack.callback(process.terminate)


def _config(folder: Path, service: int, exporter: int) -> Path:
    """The product's own configuration, with these addresses and a shorter interval."""
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(FOLDER / name) for name in config["rule_files"]]
    del config["alerting"]
    for job, port, whose in zip(config["scrape_configs"], (service, exporter), ("fraud", "all"), strict=True):
        del job["file_sd_configs"]
        labels = {"usecase": whose, "env": "dev"}
        job["static_configs"] = [{"targets": [f"127.0.0.1:{port}"], "labels": labels}]
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(config))
    return file


def path_of_programs() -> str:
    """``PATH`` with this environment's own commands first."""
    return f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
