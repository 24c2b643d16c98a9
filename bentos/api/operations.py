"""The operations of the OpenAPI document: what each path takes and answers, without its errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple


class Examples(NamedTuple):
    """What an operation is worded with: example bodies of the use case, and how long a list may be."""

    event: dict[str, Any]
    label: dict[str, Any]
    action: dict[str, Any]
    max_batch: int


Operation = Callable[[Examples], dict[str, Any]]

_EXPLAIN: Final = {
    "name": "explain", "in": "query", "required": False, "schema": {"type": "boolean", "default": False},
    "description": "Add the strongest reasons (TreeSHAP, in log odds), or null where they would explain another score.",
}  # fmt: skip
_LISTED: Final = (
    "A malformed event refuses the whole list (400, the row is named) and nothing is scored. "
    "An id that was answered before with another body, or a time in the future, fails alone: its place in the "
    "answer holds an error."
)


def score(examples: Examples) -> dict[str, Any]:
    """``POST /score``."""
    answer = {
        "event_id": next(iter(examples.event.values()), "t-1"), "score": 0.0123, "decision": False, "threshold": 0.2,
        "model": {"name": "dev-fraud", "version": "3", "alias": "champion"},
    }  # fmt: skip
    return {
        "summary": "Score one event",
        "description": "The same id with the same body gets its first answer again, so a retry is safe.",
        "operationId": "score",
        "parameters": [_EXPLAIN],
        "requestBody": body(ref("Event"), examples.event),
        "responses": {"200": content("The answer; it is in the log already", ref("Answer"), answer)},
    }


def score_batch(examples: Examples) -> dict[str, Any]:
    """``POST /score/batch``."""
    return {
        "summary": "Score a list of events, in the given order",
        "description": _LISTED,
        "operationId": "scoreBatch",
        "parameters": [_EXPLAIN],
        **_scored_list(examples),
    }


def score_list(examples: Examples) -> dict[str, Any]:
    """``POST /score/list``."""
    return {
        "summary": "Score a list of events, in the given order, through BentoML's adaptive batching",
        "description": _LISTED,
        "operationId": "scoreList",
        **_scored_list(examples),
    }


def _scored_list(examples: Examples) -> dict[str, Any]:
    answers = {"type": "array", "items": {"oneOf": [ref("Answer"), ref("RowError")]}}
    return {
        "requestBody": body(_list_of(ref("Event"), examples.max_batch), [examples.event]),
        "responses": {"200": content("One answer or error for each event, in order", answers)},
    }


def events(examples: Examples) -> dict[str, Any]:
    """``POST /events``."""
    return {
        "summary": "Send one event that is not to be scored, or several",
        "description": "They feed the windows and become history. Repeating one changes nothing.",
        "operationId": "events",
        **_kept("Event", examples.event, examples.max_batch),
    }


def late(examples: Examples) -> dict[str, Any]:
    """``POST /late``."""
    report = {"event": examples.event, "decision": True, "reason": "deadline"}
    return {
        "summary": "Report a decision that a client took by itself, or several",
        "description": "The event feeds the windows and stands in the log as late, with this decision. "
        "An event that was answered after all keeps its answer.",
        "operationId": "late",
        **_kept("Report", report, examples.max_batch),
    }


def labels(examples: Examples) -> dict[str, Any]:
    """``POST /labels``."""
    return {
        "summary": "Say what became of one event, or of several",
        "description": "Labels are kept as statements; repeating one changes nothing. A stronger source revises a "
        "weaker one. Two statements of one source that contradict each other are both kept and the event is excluded.",
        "operationId": "labels",
        **_kept("Label", examples.label, examples.max_batch),
    }


def actions(examples: Examples) -> dict[str, Any]:
    """``POST /actions``."""
    return {
        "summary": "Say what was really done with one event, or with several",
        "description": "The latest action of an event counts; repeating one changes nothing. Estimates use it where "
        "flagged events are blocked: a release earns a label, a block does not.",
        "operationId": "actions",
        **_kept("Action", examples.action, examples.max_batch),
    }


def model(examples: Examples) -> dict[str, Any]:
    """``GET /model``."""
    summary = "What is active, since when, and what is refused"
    return {"summary": summary, "responses": {"200": content(summary, ref("Model"))}}


def livez(examples: Examples) -> dict[str, Any]:
    """``GET /livez``."""
    return _plain("200 while the process lives")


def readyz(examples: Examples) -> dict[str, Any]:
    """``GET /readyz``."""
    return _plain("200 while a verified champion and its windows are there, else 503")


def healthz(examples: Examples) -> dict[str, Any]:
    """``GET /healthz``."""
    return _plain("200 while the process lives")


def metrics(examples: Examples) -> dict[str, Any]:
    """``GET /metrics``."""
    return _plain("Prometheus metrics; no key is needed unless the service is told to")


def _plain(summary: str) -> dict[str, Any]:
    return {"summary": summary, "responses": {"200": {"description": summary}}}


def _kept(schema: str, example: dict[str, Any], max_batch: int) -> dict[str, Any]:
    """One object of a schema or a list of them, and the receipt."""
    accepted = content("Accepted and durable", ref("Accepted"), {"accepted": 1, "conflicts": []})
    return {
        "requestBody": body({"oneOf": [ref(schema), _list_of(ref(schema), max_batch)]}, example),
        "responses": {"200": accepted},
    }


def _list_of(item: dict[str, Any], limit: int) -> dict[str, Any]:
    return {"type": "array", "items": item, "minItems": 1, "maxItems": limit}


def body(schema: dict[str, Any], example: Any) -> dict[str, Any]:
    """A required JSON body."""
    return {"required": True, "content": {"application/json": {"schema": schema, "example": example}}}


def content(description: str, schema: dict[str, Any], example: Any = None) -> dict[str, Any]:
    """A JSON response."""
    media: dict[str, Any] = {"schema": schema}
    if example is not None:
        media["example"] = example
    return {"description": description, "content": {"application/json": media}}


def ref(name: str) -> dict[str, str]:
    """A reference to a schema of the document's components."""
    return {"$ref": f"#/components/schemas/{name}"}
