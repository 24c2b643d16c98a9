"""Bodies made from an OpenAPI document: valid ones, mutated ones, and garbage; and what values they hold."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from hypothesis import strategies as st

Strategy = st.SearchStrategy[Any]
_WORDS = st.text(st.characters(exclude_categories=("C",)), min_size=8, max_size=24)
_EDGES = [datetime.fromisoformat(day) for day in ("2025-12-01", "2026-04-01", "1971-01-01", "2198-12-31")]
_ZONES = st.sampled_from([UTC, timezone(timedelta(hours=9))])
_TIMES = st.datetimes(*_EDGES[:2], timezones=_ZONES) | st.datetimes(*_EDGES[2:], timezones=_ZONES)
_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_LITERALS = st.sampled_from(
    [b"NaN", b"-Infinity", b"1e999", b"-0", b"00", b"0x10", b'"\\ud800"', b'"\\u0000"', b"[" * 5000]
)


def bodies(document: dict[str, Any], path: str) -> st.SearchStrategy[bytes]:
    """Bodies for one POST route of a document."""
    schema = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    valid = values(schema, document).map(lambda value: json.dumps(value, ensure_ascii=False).encode())
    return st.one_of(valid, valid, _mutated(values(schema, document)), _spliced(valid), _garbage())


def values(schema: dict[str, Any], document: dict[str, Any]) -> Strategy:
    """Valid values of a schema; covers what our document uses."""
    if "$ref" in schema:
        return values(document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], document)
    for several in ("oneOf", "anyOf"):
        if several in schema:
            return st.one_of([values(each, document) for each in schema[several]])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    return _KINDS[schema["type"]](schema, document)


def _object(schema: dict[str, Any], document: dict[str, Any]) -> Strategy:
    fields = {name: values(field, document) for name, field in schema["properties"].items()}
    needed = {name: field for name, field in fields.items() if name in schema.get("required", ())}
    return st.fixed_dictionaries(needed, optional={name: fields[name] for name in fields.keys() - needed.keys()})


def _list(schema: dict[str, Any], document: dict[str, Any]) -> Strategy:
    return st.lists(values(schema["items"], document), min_size=schema["minItems"], max_size=3)


def _text(schema: dict[str, Any], document: dict[str, Any]) -> Strategy:
    if schema.get("format") == "date-time":
        return _TIMES.map(datetime.isoformat)
    return _WORDS.filter(lambda text: schema.get("minLength", 0) <= len(text) <= schema.get("maxLength", 99))


def _number(schema: dict[str, Any], document: dict[str, Any]) -> Strategy:
    return st.floats(schema.get("minimum"), schema.get("maximum"), allow_nan=False, allow_infinity=False)


_KINDS: dict[str, Callable[[dict[str, Any], dict[str, Any]], Strategy]] = {
    "object": _object,
    "array": _list,
    "string": _text,
    "number": _number,
    "integer": lambda schema, _: st.integers(schema.get("minimum"), schema.get("maximum")),
    "boolean": lambda *_: st.booleans(),
    "null": lambda *_: st.none(),
}


@st.composite
def _mutated(draw: st.DrawFn, valid: Strategy) -> bytes:
    """A valid value with one field changed, lost, added or repeated."""
    value = draw(valid)
    place = draw(st.sampled_from(_objects(value)))
    name = draw(st.sampled_from(sorted(place)))
    change = draw(st.sampled_from(["replace", "lose", "add", "repeat", "wrap"]))
    if change == "replace":
        place[name] = draw(_ANYTHING)
    elif change == "lose":
        del place[name]
    elif change == "add":
        place[draw(st.text(min_size=1, max_size=12))] = draw(_ANYTHING)
    text = json.dumps(value, ensure_ascii=draw(st.booleans()))
    if change == "repeat":
        text = text.replace(json.dumps(name) + ":", json.dumps(name) + ": 1, " + json.dumps(name) + ":", 1)
    return (f"[{text}]" if change == "wrap" else text).encode("utf-8", "surrogatepass")


@st.composite
def _spliced(draw: st.DrawFn, valid: st.SearchStrategy[bytes]) -> bytes:
    """A valid body that is cut, or has foreign bytes in the middle."""
    body = draw(valid)
    at = draw(st.integers(0, len(body)))
    foreign = draw(st.binary(max_size=6) | _LITERALS)
    return body[:at] + foreign + body[at + draw(st.integers(0, 12)) :]


def _garbage() -> st.SearchStrategy[bytes]:
    return st.binary(max_size=80) | _LITERALS | _ANYTHING.map(lambda value: json.dumps(value).encode())


def _objects(value: Any) -> list[dict[str, Any]]:
    """Every object with fields in a JSON value."""
    found = [value] if isinstance(value, dict) and value else []
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return found + [each for part in inner for each in _objects(part)]


def telling(body: bytes) -> Iterator[str]:
    """Values of a body that nothing else would write: long texts and long numbers, as a log line would show them."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        if len(body) >= 12:
            yield body.decode("utf-8", "replace")
        return
    for leaf in _leaves(value):
        if isinstance(leaf, str) and len(leaf) >= 8:
            yield from {leaf, json.dumps(leaf)[1:-1], repr(leaf)[1:-1]}
        elif isinstance(leaf, float | int) and not isinstance(leaf, bool) and len(repr(leaf)) >= 8:
            yield repr(leaf)


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _leaves(part)
    else:
        yield value
