"""The Bento: ``bentoml serve bentos.service:Incumbent`` serves the use case of ``INCUMBENT_USECASE``.

The only module that imports bentoml. What paths exist stands in :mod:`bentos.api.routes`; the front door
(:mod:`bentos.api.front_door`), the outermost link of the same chain, answers most of them before the
framework's own layers run. BentoML is told of one API, ``/score/list``: its rows pass through adaptive batching.

Heavy imports wait until the worker needs them: what this module imports, the master process holds too.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import bentoml
import yaml
from _bentoml_sdk import Service
from bentoml.validators import ContentType
from pydantic import PlainValidator, WithJsonSchema

# BentoML takes a Bento's source off the path again when it has imported this module, and the rooms import each other
# later; in front, so that no package of the same name is taken for a room.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bentos.errors import IncumbentError
from bentos.serving.metrics_folder import enter_folder, forget_dead_workers

if TYPE_CHECKING:
    from bentos.api.list_tickets import Tickets
    from bentos.schema.event import Event
    from bentos.serving.runtime import Runtime
    from monitoring.metrics.serving import RequestTally

NAMESPACE = "incumbent"
enter_folder()  # before anything counts: a worker imports this module first

from bentos.api import routes  # noqa: E402  # it brings the metrics, which look for the folder when they are made

BATCH_ROWS = 256
"""Rows scored in one go for lists: longer ones would hold up single events."""


class ApiPage(dict[str, Any]):
    """Our OpenAPI document in the form that BentoML asks for."""

    def asdict(self) -> dict[str, Any]:
        """The document."""
        return dict(self)


yaml.add_representer(ApiPage, yaml.representer.SafeRepresenter.represent_dict)


@lru_cache(maxsize=1)
def runtime() -> Runtime:
    """The runtime of this process, made on first use and started by the service."""
    from bentos.model.xgboost_booster import import_lean_xgboost
    from bentos.serving.runtime import build_runtime
    from bentos.settings import read_settings

    import_lean_xgboost()
    return build_runtime(read_settings())


@lru_cache(maxsize=1)
def tickets() -> Tickets:
    """Where rows of lists wait while their numbers pass through BentoML."""
    from bentos.api.list_tickets import Tickets

    return Tickets()


class FrontedService(Service):  # type: ignore[misc]  # the base has no type information
    """A BentoML service behind our front door, with our OpenAPI document."""

    def to_asgi(self, is_main: bool = True) -> Any:
        """BentoML's application with one more, outermost, middleware."""
        from bentos.api.front_door import FrontDoor
        from bentos.api.key_gate import listening_address, make_gate
        from bentos.api.openapi import INDEX
        from bentos.api.uvicorn_shortcut import install
        from bentos.settings import read_settings

        gate = make_gate(read_settings(), listening_address())
        app = super().to_asgi(is_main)
        known = _known_paths(app.routes)
        app.add_middleware(
            FrontDoor,
            runtime=runtime,
            tally=_tally,
            tickets=tickets(),
            known=known,
            index=INDEX,
            shortcut=install(),
            gate=gate,
        )
        return app

    @property
    def openapi_spec(self) -> ApiPage:
        """See :func:`bentos.api.openapi.openapi`."""
        from bentos.api.openapi import openapi

        version = self.bento.tag.version if self.bento is not None else "unbuilt"
        serving_runtime = runtime()
        return ApiPage(
            openapi(serving_runtime.usecase, serving_runtime.schema, version or "unbuilt", serving_runtime.max_batch)
        )


def _known_paths(routes: list[Any]) -> frozenset[str]:
    """Every path that leads anywhere: of routes, and of the files behind mounted folders."""
    paths = set()
    for route in routes:
        folder = getattr(getattr(route, "app", None), "directory", None)
        if folder is None:
            paths.add(route.path)
        else:
            files = (file.relative_to(folder) for file in Path(folder).rglob("*") if file.is_file())
            paths.update(f"{route.path}/{file.as_posix()}" for file in files)
    return frozenset(paths)


def _requested_address() -> tuple[str, int] | None:
    """Host and port that ``bentoml serve`` was asked to listen on, or none where that is not known here."""
    import click
    from bentoml._internal.configuration.containers import BentoMLContainer

    context = click.get_current_context(silent=True)
    if context is None:
        return None
    port = context.params.get("port") or BentoMLContainer.http.port.get()
    return str(context.params.get("host") or BentoMLContainer.http.host.get()), int(port)


def _tally(metrics_layer: Any) -> RequestTally:
    """Count what the front door answers in the instruments of BentoML's own metrics layer."""
    from monitoring.metrics.serving import RequestTally

    def instruments() -> tuple[Any, Any] | None:
        if not hasattr(metrics_layer, "_setup"):  # metrics are switched off
            return None
        if not metrics_layer._is_setup:
            metrics_layer._setup()
        return metrics_layer.metrics_request_total, metrics_layer.metrics_request_duration

    def labels() -> dict[str, str]:
        context = bentoml.server_context
        return {
            "service_name": context.bento_name,
            "service_version": context.bento_version,
            "runner_name": context.service_name or "",
        }

    answered = [route.path for route in routes.ROUTES if route.handler is not None]
    return RequestTally(instruments, labels, endpoints=answered)


def _redeem(number: Any) -> Event:
    """The row that waits under a ticket's number."""
    try:
        return tickets().redeem(number)
    except (KeyError, TypeError) as exc:
        raise ValueError("an event comes through the front door") from exc


_OBJECT = WithJsonSchema({"type": "object"})
Row = Annotated[Any, PlainValidator(_redeem), _OBJECT]
Json = ContentType("application/json")
Rows = Annotated[list[Row], Json]
Answers = Annotated[list[dict[str, Any]], Json]


@bentoml.service(
    name=NAMESPACE,
    service_class=FrontedService,
    workers=1,  # the window state lives in the process; replicas need a shared one
    traffic={"timeout": 5, "max_concurrency": 512},
    tracing={"excluded_urls": ".*"},
    logging={"access": {"enabled": False}},
    metrics={
        "namespace": NAMESPACE,
        "duration": {"buckets": [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0]},
    },
)
class Incumbent:
    """Scores events with the active model and writes the prediction log."""

    def __init__(self) -> None:
        self.runtime = runtime()

    @bentoml.on_deployment
    def begin() -> None:
        """Make what all workers share, or end before anything starts.

        Refused are keys (of clients or of hashed ids) or look-up tables that are needed and lack, and a home that
        another service uses. The worker checks the keys again, by its socket; a worker that ends is only started
        anew, with the same result.
        """
        from bentos.api.key_gate import make_gate
        from bentos.home_lock import hold_service
        from bentos.schema.id_hashing import require_hash_key
        from bentos.serving.metrics_folder import VARIABLE, candidate_folders, make_folder
        from bentos.serving.other_homes import name_home, require_only_home
        from bentos.serving.supervisor import name_supervisor
        from bentos.settings import read_settings
        from bentos.usecase.loading import load_usecase

        try:
            settings = read_settings()
            # A worker of a Bento starts in the Bento's source: state there would be lost with the next version.
            os.environ.update(settings.absolute_paths())
            usecase = load_usecase(settings.usecase)
            require_hash_key(usecase, settings)
            if usecase.lookups:
                from bentos.schema.lookups import require_lookups  # imports pandas

                require_lookups(usecase, settings.lookups(usecase.name))
            if (address := _requested_address()) is not None:
                make_gate(settings, address[0])
            listens_at = "http://{}:{}".format(*address) if address else ""
            hold_service(settings, usecase.name, listens_at)
            require_only_home(settings, usecase.name)
            name_home(settings, listens_at)
            os.environ[VARIABLE] = str(make_folder(candidate_folders(settings.metrics_place)))
            name_supervisor()
        except (IncumbentError, OSError) as exc:
            print(f"refused: {exc}", file=sys.stderr)  # noqa: T201  # the log of a service that never was
            raise SystemExit(1) from exc

    @bentoml.on_startup
    async def open(self) -> None:
        """Start the runtime's threads; the service is ready when a champion is active."""
        logging.getLogger(NAMESPACE).setLevel(logging.INFO)
        # uvicorn words a line for each request even where nobody keeps it, unless the logger leads nowhere.
        logging.getLogger("uvicorn.access").propagate = False
        # Loading a model and filling windows happen on threads; a request should wait 0.1 ms for one, not 5.
        sys.setswitchinterval(0.0001)
        if (bentoml.server_context.worker_index or 1) > 1 and not self.runtime.shares_windows:
            raise RuntimeError("the window state lives in one process: run one worker, or set INCUMBENT_REDIS_URL")
        forget_dead_workers()
        self.runtime.start(asyncio.get_running_loop())

    @bentoml.on_shutdown
    def close(self) -> None:
        """End them, and make the log durable."""
        self.runtime.stop()

    async def __is_ready__(self) -> bool:
        return self.runtime.serving()

    def __metrics__(self, text: str) -> str:
        from monitoring.metrics.exposition import label_text

        return label_text(text, self.runtime.scope)

    @bentoml.api(route=routes.LIST.path, batchable=True, max_batch_size=BATCH_ROWS)
    async def score_list(self, events: Rows, /) -> Answers:
        """Score a list through BentoML's adaptive batching; never raises: a batch carries rows of several requests."""
        from bentos.scoring.scorer import row_answers

        return row_answers(self.runtime.score, events)
