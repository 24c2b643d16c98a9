"""The OpenAPI document of one use case, made from the same column list that checks the requests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from pydantic import BaseModel

from bentos import http
from bentos.http import ErrorKind
from bentos.labels import label_columns
from bentos.schema import EventSchema, body_model_of
from bentos.usecase import UseCase

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

_ALWAYS: Final = (http.METHOD, http.SLOW_BODY, http.TOO_LARGE, http.MEDIA_TYPE, http.BUSY, http.INTERNAL)
_SCORING: Final = (http.INVALID, http.CONFLICT, *_ALWAYS, http.NOT_READY, http.LOG_FULL)
_MESSAGES: Final = {
    http.INVALID: "column 'amount': allowed is a number from 0 to 1e+06",
    http.CONFLICT: "this event id was answered before, with another body",
}


def openapi(usecase: UseCase, schema: EventSchema, version: str, max_batch: int) -> dict[str, Any]:
    """The OpenAPI 3.1 document.

    Args:
        usecase: names and describes the columns.
        schema: what requests are checked with.
        version: shown as the version of the API.
        max_batch: events of one list.
    """
    event, label = schema.body_model(), body_model_of("Label", label_columns(usecase))
    examples = _example(event), _example(label)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"Incumbent: {usecase.name}",
            "version": version,
            "description": usecase.description or "Scores events with the model in office.",
        },
        "servers": [{"url": "."}],
        "paths": {
            "/score": {"post": _score(*examples)},
            "/score/batch": {"post": _batch(examples[0], max_batch)},
            "/labels": {"post": _labels(examples[1], max_batch)},
            "/model": {"get": _get("What is in office, since when, and what is refused", "Model")},
            **_infrastructure(),
        },
        "components": {"schemas": _schemas(event, label)},
    }


def _schemas(*models: type[BaseModel]) -> dict[str, Any]:
    number, text = {"type": "number", "minimum": 0, "maximum": 1}, {"type": "string"}
    served = {"name": text, "version": text, "alias": text}
    answer = {"event_id": text, "score": number, "decision": {"type": "boolean"}, "threshold": number}
    error = _object({"code": {"type": "string", "enum": sorted({kind.code for kind in http.ERRORS})}, "message": text})
    event, label = (model.model_json_schema() for model in models)
    return {
        "Event": event,
        "Label": label,
        "Answer": _object(answer | {"model": _object(served)}),
        "RowError": _object({"event_id": text, "error": error}),
        "Error": _object({"error": error}),
        "Accepted": _object(
            {"accepted": {"type": "integer"}, "conflicts": {"type": "array", "items": {"type": "integer"}}}
        ),
        "Model": {"type": "object"},
    }


def _score(event: dict[str, Any], label: dict[str, Any]) -> dict[str, Any]:
    said = {
        "event_id": next(iter(event.values()), "t-1"), "score": 0.0123, "decision": False, "threshold": 0.2,
        "model": {"name": "dev-fraud", "version": "3", "alias": "champion"},
    }  # fmt: skip
    answers = {"200": _content("The answer; it is in the log already", _ref("Answer"), said)}
    return {
        "summary": "Score one event",
        "description": "The same id with the same body gets its first answer again, so a retry is safe.",
        "operationId": "score",
        "requestBody": _body(_ref("Event"), event),
        "responses": {**answers, **_errors(_SCORING)},
    }


def _batch(event: dict[str, Any], max_batch: int) -> dict[str, Any]:
    rows = {"type": "array", "items": _ref("Event"), "minItems": 1, "maxItems": max_batch}
    item = {"oneOf": [_ref("Answer"), _ref("RowError")]}
    return {
        "summary": "Score a list of events, in the given order",
        "description": "A malformed event refuses the whole list (400, the row is named) and nothing is scored. "
        "An id that was answered before with another body fails alone: its place in the answer holds an error.",
        "operationId": "scoreBatch",
        "requestBody": _body(rows, [event]),
        "responses": {
            "200": _content("One answer or error for each event, in order", {"type": "array", "items": item}),
            **_errors((http.INVALID, *_ALWAYS, http.NOT_READY, http.TIMEOUT)),
        },
    }


def _labels(label: dict[str, Any], max_batch: int) -> dict[str, Any]:
    rows = {"type": "array", "items": _ref("Label"), "minItems": 1, "maxItems": max_batch}
    return {
        "summary": "Say what became of one event, or of several",
        "description": "Labels are kept as statements; repeating one changes nothing. A stronger source revises a "
        "weaker one. Two statements of one source that contradict each other are both kept and the event is excluded.",
        "operationId": "labels",
        "requestBody": _body({"oneOf": [_ref("Label"), rows]}, label),
        "responses": {
            "200": _content("Accepted and durable", _ref("Accepted"), {"accepted": 1, "conflicts": []}),
            **_errors((http.INVALID, http.CONFLICT, *_ALWAYS, http.UNPROCESSABLE, http.LOG_FULL)),
        },
    }


def _infrastructure() -> dict[str, Any]:
    return {
        "/livez": {"get": _get("200 while the process lives")},
        "/readyz": {"get": _get("200 while a verified champion and its windows are there, else 503")},
        "/metrics": {"get": _get("Prometheus metrics")},
    }


def _get(summary: str, schema: str | None = None) -> dict[str, Any]:
    answer = {"description": summary} if schema is None else _content(summary, _ref(schema))
    return {"summary": summary, "responses": {"200": answer}}


def _errors(kinds: Iterable[ErrorKind]) -> dict[str, Any]:
    """One response for each status, with an example for each code."""
    found: dict[str, Any] = {}
    for kind in kinds:
        example = {"error": {"code": kind.code, "message": _MESSAGES.get(kind, kind.meaning)}}
        place = found.setdefault(str(kind.status), _content(kind.meaning, _ref("Error")))
        place["content"]["application/json"].setdefault("examples", {})[kind.code] = {"value": example}
    return found


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
