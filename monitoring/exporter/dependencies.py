"""Whether the services that a process leans on answer now: database, MLflow, Prefect, Redis. Nothing is changed.

Only what the settings name as a server of its own is asked; a file in the home is looked at. An answer of any kind is
an answer, also "log in first": whether a password is right is for those who use it. No text here holds an address,
for addresses hold passwords.
"""

from __future__ import annotations

import socket
import time
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Final
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit, urlunsplit

from monitoring.core.deadline import run_within

TIMEOUT_S: Final = 2.0
DEPENDENCY_NAMES: Final = ("database", "mlflow", "prefect", "redis")


@dataclass(frozen=True)
class Dependency:
    """What one service said.

    Attributes:
        name: ``database``, ``mlflow``, ``prefect`` or ``redis``.
        up: whether it answered.
        problem: why not, without its address; empty where it did.
        seconds: how long it took.
    """

    name: str
    up: bool
    problem: str
    seconds: float


def probe_all(
    *, database_url: str = "", mlflow_uri: str = "", prefect_url: str = "", redis_url: str = "",
    timeout_s: float = TIMEOUT_S,
) -> list[Dependency]:  # fmt: skip
    """Ask every service that has an address, all at once; one that says nothing in time is down.

    Args:
        database_url: SQLAlchemy URL of the log.
        mlflow_uri: of tracking and registry.
        prefect_url: API of the Prefect server, ``http://host:port/api``.
        redis_url: of the shared windows.
        timeout_s: for all together.
    """
    questions: Mapping[str, tuple[str, Callable[[str, float], None]]] = {
        "database": (database_url, ask_database),
        "mlflow": (mlflow_uri, ask_mlflow),
        "prefect": (prefect_url, ask_prefect),
        "redis": (redis_url, ask_redis),
    }
    _import_drivers(database_url, mlflow_uri, redis_url)
    jobs = {name: partial(_probe, name, ask, url, timeout_s) for name, (url, ask) in questions.items() if url}
    answers = run_within(jobs, timeout_s + 0.5)
    late_problem = f"no answer within {timeout_s:g} s"
    return [answers.get(name) or Dependency(name, False, late_problem, timeout_s) for name in jobs]


def _import_drivers(database_url: str, mlflow_uri: str, redis_url: str) -> None:
    """Import what the questions need before the clock runs: on a busy machine that alone takes seconds."""
    import sqlalchemy  # noqa: F401

    if any(url.startswith("postgres") for url in (database_url, mlflow_uri)):
        import psycopg  # noqa: F401
    if redis_url:
        import redis  # noqa: F401


def _probe(name: str, ask: Callable[[str, float], None], url: str, timeout_s: float) -> Dependency:
    started = time.monotonic()
    try:
        ask(url, timeout_s)
    except Exception as exc:  # whatever a driver raises: its text may hold the address
        return Dependency(name, False, _reason(exc, timeout_s), time.monotonic() - started)
    return Dependency(name, True, "", time.monotonic() - started)


def _reason(exc: BaseException, timeout_s: float) -> str:
    cause: BaseException | None = exc
    while cause is not None:
        if isinstance(cause, TimeoutError | socket.timeout):
            return f"no answer within {timeout_s:g} s"
        if isinstance(cause, ConnectionRefusedError):
            return "nobody listens at its address"
        if isinstance(cause, socket.gaierror):
            return "its host name is not known"
        if isinstance(cause, DependencyMissing):
            return str(cause)
        inner = getattr(cause, "reason", None)
        cause = inner if isinstance(inner, BaseException) else cause.__cause__ or cause.__context__
    return f"it cannot be used ({type(exc).__name__})"


class DependencyMissing(Exception):
    """A service answered in a way that says it is not there; the text is safe to show."""


def ask_database(url: str, timeout_s: float) -> None:
    """Read one value from the log's database; a SQLite file that is not there is not made."""
    from sqlalchemy import create_engine, text
    from sqlalchemy.pool import NullPool

    from monitoring.store.database.engine import _parse_url

    database_url = _parse_url(url)
    if database_url.get_backend_name() == "sqlite":
        path = Path(database_url.database or "")
        if not path.is_file():
            raise DependencyMissing(f"there is no file {path.name}")
        options: dict[str, object] = {"timeout": timeout_s}
    else:
        options = {"connect_timeout": max(1, int(timeout_s))}
    engine = create_engine(database_url, poolclass=NullPool, connect_args=options)
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT version_num FROM alembic_version"))
    finally:
        engine.dispose()


def ask_mlflow(uri: str, timeout_s: float) -> None:
    """Ask an MLflow server for its health; where MLflow is a database of its own, read from that."""
    if uri.startswith(("http://", "https://")):
        _get(uri.rstrip("/") + "/health", timeout_s)
    elif uri.startswith(("sqlite:", "postgresql")):
        ask_database(uri, timeout_s)


def ask_prefect(url: str, timeout_s: float) -> None:
    """Ask a Prefect server for its health."""
    _get(url.rstrip("/") + "/health", timeout_s)


def ask_redis(url: str, timeout_s: float) -> None:
    """Ask Redis for a sign of life."""
    from redis import Redis

    with Redis.from_url(url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s) as client:
        client.ping()


def _get(url: str, timeout_s: float) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(_request(url), timeout=timeout_s):  # an address from the settings, http or https
            return
    except HTTPError as exc:
        exc.close()
        if exc.code >= 500:
            raise DependencyMissing(f"it answered {exc.code}") from None
    except HTTPException as exc:
        raise DependencyMissing(f"what answers there is no web server ({type(exc).__name__})") from None


def _request(url: str) -> urllib.request.Request:
    """The question, with the name and password that stand in its address where urllib wants them: in a header."""
    parts = urlsplit(url)
    login, _, host = parts.netloc.rpartition("@")
    request = urllib.request.Request(urlunsplit(parts._replace(netloc=host)))  # noqa: S310 - http(s) only
    if login:
        request.add_header("Authorization", f"Basic {b64encode(unquote(login).encode()).decode()}")
    return request
