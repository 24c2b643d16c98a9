"""The OpenAPI document of one use case, made from the table of paths and the column list that checks
requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from pydantic import BaseModel

from bentos import http_errors
from bentos.api import routes
from bentos.api.actions import action_columns
from bentos.api.labels import label_columns
from bentos.api.operations import Examples, content, ref
from bentos.api.routes import Route
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
    examples = Examples(_example(event), _example(label), _example(action), max_batch)
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
        "paths": {route.path: {route.method.lower(): _operation(route, examples)} for route in routes.ROUTES},
        "components": {
            "schemas": _schemas(event, label, action, acts=usecase.intervention.blocks_flagged),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


def _operation(route: Route, examples: Examples) -> dict[str, Any]:
    operation = route.operation(examples)
    return {**operation, "responses": {**operation["responses"], **_errors(route.errors)}}


def _errors(kinds: Sequence[ErrorKind]) -> dict[str, Any]:
    """One response for each status, with an example for each code."""
    responses: dict[str, Any] = {}
    for kind in kinds:
        example = {"error": {"code": kind.code, "message": _MESSAGES.get(kind, kind.meaning)}}
        response = responses.setdefault(str(kind.status), content(kind.meaning, ref("Error")))
        response["content"]["application/json"].setdefault("examples", {})[kind.code] = {"value": example}
    return responses


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
    report = {"event": ref("Event"), "decision": boolean, "reason": {"type": "string", "enum": list(REASONS)}}
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


def _object(properties: dict[str, Any], required: Sequence[str] | None = None) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required or properties)}


def _example(model: type[BaseModel]) -> dict[str, Any]:
    """An object made of the columns' own examples."""
    properties = model.model_json_schema()["properties"]
    return {name: field["examples"][0] for name, field in properties.items() if field.get("examples")}
