"""The table of paths. A new path is one row here; everything that knows paths is made from it.

Made from it are what the front door answers (:mod:`bentos.api.front_door`), what the key gate asks for
(:mod:`bentos.api.key_gate`), the OpenAPI document (:mod:`bentos.api.openapi`), the request that needs no
ASGI (:mod:`bentos.api.uvicorn_shortcut`) and the endpoint labels of the metrics. Beside the table lie only the
API page's own files, which BentoML serves to any valid key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from bentos.api import handlers, operations
from bentos.api.handlers import Handler
from bentos.api.operations import Operation
from bentos.http_errors import (
    BUSY,
    CONFLICT,
    HOST,
    INTERNAL,
    INVALID,
    KEY_INVALID,
    KEY_MISSING,
    LOG_FULL,
    MEDIA_TYPE,
    METHOD,
    NO_WINDOWS,
    NOT_READY,
    ORIGIN,
    PENDING,
    SCOPE_MISSING,
    SLOW_BODY,
    TIMEOUT,
    TOO_LARGE,
    UNPROCESSABLE,
    ErrorKind,
)
from bentos.keys import Scope as KeyScope


@dataclass(frozen=True)
class Route:
    """One path of the HTTP interface.

    Attributes:
        path: exact; also the label of its requests in the metrics.
        method: the only one that it answers.
        scope: what the API key has to allow; ``any`` takes each valid key, ``open`` asks for none.
        handler: makes the reply; none where BentoML answers by itself.
        errors: what a client may meet, each shown in the OpenAPI document.
        operation: its part of the OpenAPI document, without the errors.
    """

    path: str
    method: Literal["GET", "POST"]
    scope: KeyScope | Literal["any", "open"]
    handler: Handler | None
    errors: tuple[ErrorKind, ...]
    operation: Operation


_DOOR: Final = (ORIGIN, HOST)
_KEYS: Final = (*_DOOR, KEY_MISSING, KEY_INVALID, SCOPE_MISSING)
_ALWAYS: Final = (METHOD, SLOW_BODY, TOO_LARGE, MEDIA_TYPE, BUSY, INTERNAL)
_BODY: Final = (INVALID, *_KEYS, *_ALWAYS)
_WINDOWS: Final = (NOT_READY, LOG_FULL, NO_WINDOWS, PENDING)
_KEEPING: Final = (INVALID, *_KEYS, CONFLICT, *_ALWAYS, UNPROCESSABLE, *_WINDOWS)
_LABELS: Final = (INVALID, *_KEYS, CONFLICT, *_ALWAYS, UNPROCESSABLE, LOG_FULL)
_MODEL: Final = (*_DOOR, KEY_MISSING, KEY_INVALID, METHOD, BUSY, INTERNAL)

SCORE: Final = Route("/score", "POST", "score", handlers.score, _KEEPING, operations.score)
"""Named because a plain request to it becomes no ASGI request."""
METRICS: Final = Route("/metrics", "GET", "open", None, _KEYS, operations.metrics)
"""Named because a setting may close it."""
LIST: Final = Route("/score/list", "POST", "score", None, (*_BODY, NOT_READY, TIMEOUT), operations.score_list)
"""Named because its rows pass through BentoML's adaptive batching: the one API that the service declares."""
ROUTES: tuple[Route, ...] = (
    SCORE,
    Route("/score/batch", "POST", "score", handlers.score_batch, (*_BODY, NOT_READY), operations.score_batch),
    LIST,
    Route("/events", "POST", "score", handlers.take_events, _KEEPING, operations.events),
    Route("/late", "POST", "score", handlers.take_late, _KEEPING, operations.late),
    Route("/labels", "POST", "label", handlers.take_labels, _LABELS, operations.labels),
    Route("/actions", "POST", "score", handlers.take_actions, (*_BODY, UNPROCESSABLE, LOG_FULL), operations.actions),
    Route("/model", "GET", "any", handlers.show_model, _MODEL, operations.model),
    Route("/livez", "GET", "open", None, (), operations.livez),
    Route("/readyz", "GET", "open", None, (), operations.readyz),
    Route("/healthz", "GET", "open", None, (), operations.healthz),
    METRICS,
)
"""Every path, in the order of the OpenAPI document. Read when the service is built, not for each request."""


def routes_by_path(routes: Sequence[Route]) -> dict[str, Route]:
    """The rows under their paths.

    Raises:
        ValueError: two rows have one path.
    """
    table = {route.path: route for route in routes}
    if len(table) < len(routes):
        twice = sorted({route.path for route in routes if table[route.path] is not route})
        raise ValueError(f"bentos/api/routes.py: one row for each path, two have {', '.join(twice)}")
    return table
