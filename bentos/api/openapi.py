"""The OpenAPI document of one use case, made from the same column list that checks the requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from pydantic import BaseModel

from bentos import http_errors
from bentos.api.actions import action_columns
from bentos.api.labels import label_columns
from bentos.client.common import REASONS
from bentos.http_errors import ErrorKind
from bentos.schema.event_schema import EventSchema, body_model_of
from bentos.usecase.definition import UseCase

INDEX: Final = b"""<!DOCTYPE html>
<html lang="en">
  <head>
    <meta charset="UTF-8">
    <title>Incumbent</title>
    <link rel="stylesheet" type="text/css" href="./static_content/swagger-ui.css">
    <link rel="icon" href="data:,">
  </head>
  <body>
    <div id="swagger-ui"></div>
    <script src="./static_content/swagger-ui-bundle.js" charset="UTF-8"></script>
    <script src="./static_content/swagger-ui-standalone-preset.js" charset="UTF-8"></script>
    <script src="./static_content/swagger-initializer.js" charset="UTF-8"></script>
  </body>
</html>
"""
"""The page behind ``/``: Swagger's own, without the tracker that the framework's page loads."""

_DOOR: Final = (http_errors.ORIGIN, http_errors.HOST)
_KEYS: Final = (*_DOOR, http_errors.KEY_MISSING, http_errors.KEY_INVALID, http_errors.SCOPE_MISSING)
_ALWAYS: Final = (
    http_errors.METHOD,
    http_errors.SLOW_BODY,
    http_errors.TOO_LARGE,
    http_errors.MEDIA_TYPE,
    http_errors.BUSY,
    http_errors.INTERNAL,
)
_WINDOWS: Final = (http_errors.NOT_READY, http_errors.LOG_FULL, http_errors.NO_WINDOWS, http_errors.PENDING)
_KEEPING: Final = (http_errors.INVALID, *_KEYS, http_errors.CONFLICT, *_ALWAYS, http_errors.UNPROCESSABLE, *_WINDOWS)
ERRORS: Final[dict[str, tuple[ErrorKind, ...]]] = {
    "/score": _KEEPING,
    "/score/batch": (http_errors.INVALID, *_KEYS, *_ALWAYS, http_errors.NOT_READY),
    "/score/list": (http_errors.INVALID, *_KEYS, *_ALWAYS, http_errors.NOT_READY, http_errors.TIMEOUT),
    "/events": _KEEPING,
    "/late": _KEEPING,
    "/actions": (http_errors.INVALID, *_KEYS, *_ALWAYS, http_errors.UNPROCESSABLE, http_errors.LOG_FULL),
    "/labels": (
        http_errors.INVALID,
        *_KEYS,
        http_errors.CONFLICT,
        *_ALWAYS,
        http_errors.UNPROCESSABLE,
        http_errors.LOG_FULL,
    ),
    "/model": (
        *_DOOR,
        http_errors.KEY_MISSING,
        http_errors.KEY_INVALID,
        http_errors.METHOD,
        http_errors.BUSY,
        http_errors.INTERNAL,
    ),
    "/metrics": _KEYS,
}
"""Errors of each path, each with an example in the document."""
_MESSAGES: Final = {
    http_errors.INVALID: "column 'amount': allowed is a number from 0 to 1e+06",
    http_errors.CONFLICT: "this event id was answered before, with another body",
    http_errors.SCOPE_MISSING: "the API key lacks the scope 'score'",
    http_errors.TOO_LARGE: "the body is longer than 1048576 bytes",
    http_errors.METHOD: "/score answers POST",
    http_errors.UNPROCESSABLE: (
        "observed_at 2099-01-01T00:00:00Z lies in the future: the machine's clock says 2026-03-01T12:00:00Z, "
        "and at most 1h ahead is allowed"
    ),
}
_EXPLAIN: Final = {
    "name": "explain", "in": "query", "required": False, "schema": {"type": "boolean", "default": False},
    "description": "Add the strongest reasons (TreeSHAP, in log odds), or null where they would explain another score.",
}  # fmt: skip


def openapi(usecase: UseCase, schema: EventSchema, version: str, max_batch: int) -> dict[str, Any]:
    """The OpenAPI 3.1 document.

    Args:
        usecase: names and describes the columns.
        schema: what requests are checked with.
        version: shown as the version of the API.
        max_batch: events of one list.
    """
    event, label = schema.body_model(), body_model_of("Label", label_columns(usecase))
    action = body_model_of("Action", action_columns(usecase))
    examples = _example(event), _example(label), _example(action)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"Incumbent: {usecase.name}",
            "version": version,
            "description": usecase.description or "Scores events with the active model.",
        },
        "servers": [{"url": "."}],
        # Keys are needed where the service listens to others; the empty entry is a service of this machine.
        "security": [{}, {"bearer": []}, {"apiKey": []}],
        "paths": {
            "/score": {"post": _score(*examples[:2])},
            "/score/batch": {"post": _batch("/score/batch", examples[0], max_batch)},
            "/score/list": {"post": _batch("/score/list", examples[0], max_batch)},
            "/events": {"post": _events(examples[0], max_batch)},
            "/late": {"post": _late(examples[0], max_batch)},
            "/labels": {"post": _labels(examples[1], max_batch)},
            "/actions": {"post": _actions(examples[2], max_batch)},
            "/model": {"get": _get("What is active, since when, and what is refused", "Model", "/model")},
            **_infrastructure(),
        },
        "components": {
            "schemas": _schemas(event, label, action, acts=usecase.intervention.blocks_flagged),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


def _schemas(*models: type[BaseModel], acts: bool = False) -> dict[str, Any]:
    number, text, boolean = {"type": "number", "minimum": 0, "maximum": 1}, {"type": "string"}, {"type": "boolean"}
    model_fields = {"name": text, "version": text, "alias": text}
    answer = {
        "event_id": text,
        "score": number,
        "decision": boolean,
        "threshold": number,
        "model": _object(model_fields),
    }
    if acts:
        answer["action"] = {"type": "string", "enum": ["block", "let_through", "explore"]}
    reasons = {"type": ["array", "null"], "items": {"type": "object"}}
    explained_answer = {**answer, "reasons": reasons, "margin": {"type": ["object", "null"]}}
    error = _object(
        {"code": {"type": "string", "enum": sorted({kind.code for kind in http_errors.ERRORS})}, "message": text}
    )
    event, label, action = (model.model_json_schema() for model in models)
    error_fields = {"code": text, "message": text}
    report = {"event": _ref("Event"), "decision": boolean, "reason": {"type": "string", "enum": list(REASONS)}}
    return {
        "Event": event,
        "Label": label,
        "Action": action,
        "Report": _object(report) | {"additionalProperties": False},
        "Answer": _object(explained_answer, list(answer)),
        "RowError": _object({"event_id": text, "error": error}),
        "Error": _object({"error": error}),
        "Accepted": _object(
            {
                "accepted": {"type": "integer"},
                "conflicts": {"type": "array", "items": {"type": "integer"}},
                "refused": {"type": "array", "items": _object({"at": {"type": "integer"}, **error_fields})},
            },
            ["accepted", "conflicts"],
        ),
        "Model": {"type": "object"},
    }


def _score(event: dict[str, Any], label: dict[str, Any]) -> dict[str, Any]:
    example_answer = {
        "event_id": next(iter(event.values()), "t-1"), "score": 0.0123, "decision": False, "threshold": 0.2,
        "model": {"name": "dev-fraud", "version": "3", "alias": "champion"},
    }  # fmt: skip
    answers = {"200": _content("The answer; it is in the log already", _ref("Answer"), example_answer)}
    return {
        "summary": "Score one event",
        "description": "The same id with the same body gets its first answer again, so a retry is safe.",
        "operationId": "score",
        "parameters": [_EXPLAIN],
        "requestBody": _body(_ref("Event"), event),
        "responses": {**answers, **_errors("/score")},
    }


def _batch(path: str, event: dict[str, Any], max_batch: int) -> dict[str, Any]:
    item = {"oneOf": [_ref("Answer"), _ref("RowError")]}
    through = "" if path == "/score/batch" else ", through BentoML's adaptive batching"
    return {
        "summary": f"Score a list of events, in the given order{through}",
        "description": "A malformed event refuses the whole list (400, the row is named) and nothing is scored. "
        "An id that was answered before with another body, or a time in the future, fails alone: its place in the "
        "answer holds an error.",
        "operationId": "scoreBatch" if not through else "scoreList",
        **({} if through else {"parameters": [_EXPLAIN]}),
        "requestBody": _body(_list(_ref("Event"), max_batch), [event]),
        "responses": {
            "200": _content("One answer or error for each event, in order", {"type": "array", "items": item}),
            **_errors(path),
        },
    }


def _events(event: dict[str, Any], max_batch: int) -> dict[str, Any]:
    return {
        "summary": "Send one event that is not to be scored, or several",
        "description": "They feed the windows and become history. Repeating one changes nothing.",
        "operationId": "events",
        "requestBody": _body({"oneOf": [_ref("Event"), _list(_ref("Event"), max_batch)]}, event),
        "responses": {"200": _accepted(), **_errors("/events")},
    }


def _late(event: dict[str, Any], max_batch: int) -> dict[str, Any]:
    report = {"event": event, "decision": True, "reason": "deadline"}
    return {
        "summary": "Report a decision that a client took by itself, or several",
        "description": "The event feeds the windows and stands in the log as late, with this decision. "
        "An event that was answered after all keeps its answer.",
        "operationId": "late",
        "requestBody": _body({"oneOf": [_ref("Report"), _list(_ref("Report"), max_batch)]}, report),
        "responses": {"200": _accepted(), **_errors("/late")},
    }


def _labels(label: dict[str, Any], max_batch: int) -> dict[str, Any]:
    return {
        "summary": "Say what became of one event, or of several",
        "description": "Labels are kept as statements; repeating one changes nothing. A stronger source revises a "
        "weaker one. Two statements of one source that contradict each other are both kept and the event is excluded.",
        "operationId": "labels",
        "requestBody": _body({"oneOf": [_ref("Label"), _list(_ref("Label"), max_batch)]}, label),
        "responses": {"200": _accepted(), **_errors("/labels")},
    }


def _actions(action: dict[str, Any], max_batch: int) -> dict[str, Any]:
    return {
        "summary": "Say what was really done with one event, or with several",
        "description": "The latest action of an event counts; repeating one changes nothing. Estimates use it where "
        "flagged events are blocked: a release earns a label, a block does not.",
        "operationId": "actions",
        "requestBody": _body({"oneOf": [_ref("Action"), _list(_ref("Action"), max_batch)]}, action),
        "responses": {"200": _accepted(), **_errors("/actions")},
    }


def _infrastructure() -> dict[str, Any]:
    return {
        "/livez": {"get": _get("200 while the process lives")},
        "/readyz": {"get": _get("200 while a verified champion and its windows are there, else 503")},
        "/healthz": {"get": _get("200 while the process lives")},
        "/metrics": {
            "get": _get("Prometheus metrics; no key is needed unless the service is told to", None, "/metrics")
        },
    }


def _get(summary: str, schema: str | None = None, path: str = "") -> dict[str, Any]:
    answer = {"description": summary} if schema is None else _content(summary, _ref(schema))
    return {"summary": summary, "responses": {"200": answer, **_errors(path)}}


def _accepted() -> dict[str, Any]:
    return _content("Accepted and durable", _ref("Accepted"), {"accepted": 1, "conflicts": []})


def _list(item: dict[str, Any], limit: int) -> dict[str, Any]:
    return {"type": "array", "items": item, "minItems": 1, "maxItems": limit}


def _errors(path: str) -> dict[str, Any]:
    """One response for each status, with an example for each code."""
    responses: dict[str, Any] = {}
    for kind in ERRORS.get(path, ()):
        example = {"error": {"code": kind.code, "message": _MESSAGES.get(kind, kind.meaning)}}
        response = responses.setdefault(str(kind.status), _content(kind.meaning, _ref("Error")))
        response["content"]["application/json"].setdefault("examples", {})[kind.code] = {"value": example}
    return responses


def _body(schema: dict[str, Any], example: Any) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": schema, "example": example}}}


def _content(description: str, schema: dict[str, Any], example: Any = None) -> dict[str, Any]:
    media: dict[str, Any] = {"schema": schema}
    if example is not None:
        media["example"] = example
    return {"description": description, "content": {"application/json": media}}


def _object(properties: dict[str, Any], required: Sequence[str] | None = None) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required or properties)}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _example(model: type[BaseModel]) -> dict[str, Any]:
    """An object made of the columns' own examples."""
    properties = model.model_json_schema()["properties"]
    return {name: field["examples"][0] for name, field in properties.items() if field.get("examples")}
