"""``python -m monitoring.exporter``: slow figures from the database, as Prometheus metrics.

A process of its own: what it costs to read drift or labels is nobody's latency. It reads the database
only and changes nothing. ``/metrics`` reads at most once in ``exporter_seconds``; while the database is
away it tells that, and nothing stale.

Where there are too few rows there is no sample: a zero would say "no drift".
"""

from __future__ import annotations

import argparse
import logging
import re
import signal
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from monitoring.core.hosts import AllowedHosts, parse_entries
from monitoring.errors import MonitoringError, StoreUnavailable
from monitoring.exporter.catalogue import ADDED, CATALOGUE, NAMESPACE, RETIRED, Sample, sample
from monitoring.metrics.exposition import ALL, LabelledCollector, scope_labels

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from monitoring.store import Store

log = logging.getLogger("incumbent.exporter")


class ExporterSettings(BaseSettings):
    """The variables that the exporter shares with the image, and its own."""

    model_config = SettingsConfigDict(
        env_prefix="INCUMBENT_", env_ignore_empty=True, frozen=True, extra="ignore", use_attribute_docstrings=True
    )

    home: Path = Path(".incumbent")
    """Folder of all state."""
    env: Literal["dev", "staging", "prod"] = "dev"
    """Prefix of the database's name."""
    database_url: str = ""
    """SQLAlchemy URL of the log; empty is SQLite inside ``home``."""
    exporter_host: str = "127.0.0.1"
    """Address to listen on."""
    exporter_port: int = Field(default=9109, ge=0, le=65535)
    """Port to listen on."""
    allowed_hosts: str = ""
    """Names besides localhost under which a scraper asks, ``name`` or ``name:port`` divided by commas."""
    exporter_seconds: float = Field(default=15.0, ge=0)
    """How long one reading of the database is told again."""
    mlflow_uri: str = ""
    """MLflow server that is asked whether it answers; a file in the home needs no question."""
    redis_url: str = ""
    """Redis of the shared windows, likewise."""
    prefect_url: str = Field(default="", validation_alias="PREFECT_API_URL")
    """API of the Prefect server, likewise; it is asked without a login."""

    @field_validator("allowed_hosts")
    @classmethod
    def _check_hosts(cls, host_list: str) -> str:
        parse_entries(host_list)
        return host_list

    @property
    def log_url(self) -> str:
        """The same database as the service's; a test keeps the two in step."""
        return self.database_url or f"sqlite:///{self.home.expanduser().absolute() / f'{self.env}-log.db'}"


def read_samples(store: Store, now: datetime) -> list[Sample]:
    """Every sample of every use case.

    A part that cannot be read (a report of a later version, say) is left out and named, so that it never
    takes the others with it.

    Raises:
        StoreUnavailable: the database cannot be read.
    """
    from monitoring.exporter.attention import environment_samples
    from monitoring.exporter.table_metrics import read_usecases

    with store.database.read() as connection:
        names = read_usecases(connection)
    retired_usecases = {name for name in names if _is_retired(store, name)}
    active = [
        metric_sample
        for name in names
        if name not in retired_usecases
        for metric_sample in _usecase_samples(store, name, now)
    ]
    return [
        *environment_samples(store, now),
        *active,
        *(metric_sample for name in sorted(retired_usecases) for metric_sample in sample("usecase_retired", name, 1)),
    ]


def _is_retired(store: Store, usecase: str) -> bool:
    last_decision = store.decisions.last(usecase, (ADDED, RETIRED))
    return last_decision is not None and last_decision.kind == RETIRED


def _usecase_samples(store: Store, usecase: str, now: datetime) -> list[Sample]:
    from monitoring.exporter import usecase_metrics
    from monitoring.exporter.attention import attention_samples
    from monitoring.exporter.table_metrics import table_samples

    parts: dict[str, Callable[[], Iterable[Sample]]] = {
        "drift": lambda: usecase_metrics.drift_samples(store, usecase),
        "comparison": lambda: usecase_metrics.comparison_samples(store, usecase),
        "flows": lambda: usecase_metrics.flow_samples(store, usecase, now),
        "replicas": lambda: usecase_metrics.replica_samples(store, usecase),
        "routing": lambda: usecase_metrics.routing_samples(store, usecase),
        "tables": lambda: table_samples(store, usecase),
        "attention": lambda: attention_samples(store, usecase, now),
    }
    usecase_samples: list[Sample] = []
    for part, read_part in parts.items():
        try:
            part_samples, readable = list(read_part()), 1
        except (KeyError, TypeError, ValueError, IndexError) as exc:
            log.error("%s of %s cannot be read: %s", part, usecase, type(exc).__name__)
            part_samples, readable = [], 0
        usecase_samples += [*part_samples, *sample("exporter_part_readable", usecase, readable, part)]
    return usecase_samples


class StoreCollector:
    """Gives prometheus_client what a reading found.

    Args:
        open_store: opens the database; called again after a failure.
        seconds: how long a reading is told again.
        services: whether the services beside the database answer; asked with each reading.
    """

    def __init__(
        self,
        open_store: Callable[[], Store],
        seconds: float,
        services: Callable[[], Iterable[Sample]] = lambda: (),
    ) -> None:
        self._open = open_store
        self._services = services
        self._seconds = seconds
        self._store: Store | None = None
        self._lock = threading.Lock()
        self._families: list[Any] = []
        self._read_at = float("-inf")

    def describe(self) -> Iterable[Any]:
        """Nothing: registering must not read the database."""
        return ()

    def collect(self) -> Iterable[Any]:
        """The metric families of a reading that is young enough."""
        with self._lock:
            if time.monotonic() - self._read_at >= self._seconds:
                self._families = self._read()
                self._read_at = time.monotonic()
            return self._families

    def close(self) -> None:
        """Let go of the database."""
        with self._lock:
            if self._store is not None:
                self._store.close()
                self._store = None

    def _read(self) -> list[Any]:
        return [*self._read_store(), *metric_families(list(self._services()))]

    def _read_store(self) -> list[Any]:
        started = time.monotonic()
        try:
            if self._store is None:
                self._store = self._open()
            store_samples = read_samples(self._store, datetime.now(UTC))
        except MonitoringError as exc:
            log.warning("the database cannot be read (%s)", type(exc).__name__)
            return [_own_gauge("database_up", "1 while the database can be read", 0)]
        seconds = time.monotonic() - started
        return [
            *metric_families(store_samples),
            _own_gauge("database_up", "1 while the database can be read", 1),
            _own_gauge("reading_seconds", "Length of the last reading of the database", seconds),
            _own_gauge("read_timestamp_seconds", "When the database was read", time.time()),
        ]


def metric_families(all_samples: Sequence[Sample]) -> list[Any]:
    """Samples as metric families, in the order of the catalogue; a metric without samples is left out."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    result = []
    for metric in CATALOGUE:
        metric_samples = [metric_sample for metric_sample in all_samples if metric_sample.name == metric.name]
        if not metric_samples:
            continue
        kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
        family = kind(metric.full_name, metric.help, labels=["usecase", *metric.labels])
        for metric_sample in metric_samples:
            family.add_metric([metric_sample.usecase, *metric_sample.labels], metric_sample.value)
        result.append(family)
    return result


def _own_gauge(name: str, text: str, value: float) -> Any:
    from prometheus_client.core import GaugeMetricFamily

    return GaugeMetricFamily(f"{NAMESPACE}exporter_{name}", text, value=value)


def build_registry(collector: StoreCollector, env: str) -> CollectorRegistry:
    """A registry with the collector, and this process's own CPU and memory; all of one environment."""
    from prometheus_client import CollectorRegistry, ProcessCollector

    registry = CollectorRegistry()
    for source in (ProcessCollector(registry=None), collector):
        registry.register(LabelledCollector(source, scope_labels(ALL, env)))
    return registry


class Exporter:
    """The HTTP server: ``/metrics``, and ``/livez`` for probes.

    Args:
        settings: where the database is, where to listen.
    """

    def __init__(self, settings: ExporterSettings) -> None:
        from wsgiref.simple_server import make_server

        from prometheus_client import make_wsgi_app
        from prometheus_client.exposition import ThreadingWSGIServer, _SilentHandler

        self.collector = _collector(settings, settings.exporter_seconds)
        pages = make_wsgi_app(build_registry(self.collector, settings.env))
        self._server = make_server(
            settings.exporter_host,
            settings.exporter_port,
            _with_probe(pages, AllowedHosts.of(settings.exporter_host, settings.allowed_hosts)),
            ThreadingWSGIServer,
            handler_class=_SilentHandler,
        )
        self.port: int = self._server.server_port

    def run(self) -> None:
        """Answer until :meth:`stop`.

        The database is read once before anybody asks: the first reading imports and opens everything, which takes
        longer than whoever asks first may wait.
        """
        threading.Thread(target=self.collector.collect, daemon=True).start()
        self._server.serve_forever(poll_interval=0.2)
        self._server.server_close()
        self.collector.close()

    def stop(self, *_: object) -> None:
        """End :meth:`run`; may be called from a signal handler."""
        threading.Thread(target=self._server.shutdown, daemon=True).start()


def _with_probe(metrics_app: Any, allowed_hosts: AllowedHosts) -> Any:
    def answer(environ: Any, start_response: Any) -> Any:
        status, text = _judge_request(environ, allowed_hosts)
        if not status and environ.get("PATH_INFO", "") == "/metrics":
            return metrics_app(environ, start_response)
        body = text.encode()
        length = ("Content-Length", str(len(body)))
        start_response(status or "200 OK", [("Content-Type", "text/plain; charset=utf-8"), length])
        return [body]

    return answer


def _judge_request(environ: Any, allowed_hosts: AllowedHosts) -> tuple[str, str]:
    """Status and text of a refusal; no status where the request may pass."""
    hosts = [environ["HTTP_HOST"]] if "HTTP_HOST" in environ else []
    refusal = allowed_hosts.refusal(hosts, environ.get("HTTP_ORIGIN"))
    if refusal is not None:
        phrase = HTTPStatus(refusal.status).phrase
        return f"{refusal.status} {phrase}", f"{refusal.message}\n"
    if environ.get("PATH_INFO", "") not in ("/livez", "/metrics"):
        return "404 Not Found", "not found\n"
    if environ.get("REQUEST_METHOD") not in ("GET", "HEAD"):
        return "405 Method Not Allowed", "only GET is answered\n"
    return "", "alive\n"


def _collector(settings: ExporterSettings, seconds: float) -> StoreCollector:
    from functools import partial

    from monitoring.exporter.attention import dependency_samples

    urls = {"mlflow_uri": settings.mlflow_uri, "redis_url": settings.redis_url, "prefect_url": settings.prefect_url}
    services = partial(dependency_samples, database_url=settings.log_url, **urls)
    return StoreCollector(lambda: _open(settings.log_url), seconds, services)


def _open(url: str) -> Store:
    from monitoring.store import open_store

    path = url.removeprefix("sqlite:///")
    if path != url and not Path(path).exists():
        raise StoreUnavailable(f"there is no database at {path} yet")  # and a reader must not make one
    return open_store(url)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve metrics from the database until SIGTERM."""
    settings = ExporterSettings()
    parser = argparse.ArgumentParser(prog="python -m monitoring.exporter", description=main.__doc__)
    parser.add_argument("--host", default=settings.exporter_host, help="INCUMBENT_EXPORTER_HOST")
    parser.add_argument("--port", type=int, default=settings.exporter_port, help="INCUMBENT_EXPORTER_PORT")
    parser.add_argument("--once", action="store_true", help="print the metrics and end")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    final_settings = settings.model_copy(update={"exporter_host": options.host, "exporter_port": options.port})
    if options.once:
        return _print_once(final_settings)
    exporter = Exporter(final_settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, exporter.stop)
    log.info("metrics on http://%s:%d/metrics", options.host, exporter.port)
    exporter.run()
    log.info("stopped in order")
    return 0


def _print_once(settings: ExporterSettings) -> int:
    from prometheus_client import generate_latest

    collector = _collector(settings, 0.0)
    text = generate_latest(build_registry(collector, settings.env)).decode()
    collector.close()
    print(text, end="")  # noqa: T201  # a command talks to people
    return 0 if re.search(r"exporter_database_up\{.*\} 1\.0$", text, flags=re.MULTILINE) else 1


if __name__ == "__main__":
    raise SystemExit(main())
