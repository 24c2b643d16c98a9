"""Types of columns, and what a value of each may be."""

from __future__ import annotations

import hashlib
import re

from bentos.usecase.declarations import Column
from bentos.usecase.limits import bounds

TEXT_TYPES = ("identifier", "string", "category")


NUMBER_TYPES = ("float", "integer")


_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def has_control(text: str) -> bool:
    """Whether a text holds a control character or half of a surrogate pair."""
    # isprintable is quick but also refuses joiners inside emoji, so a doubtful text gets the exact search.
    return not text.isprintable() and _CONTROL.search(text) is not None


def allowed_values(column: Column) -> str:
    """What a column may hold, in words for an error message."""
    if column.type in NUMBER_TYPES:
        kind = "a number" if column.type == "float" else "an integer"
        low, high = bounds(column)
        text = f"{kind} from {low:g} to {high:g}" if column.min is not None or column.max is not None else kind
    elif column.type == "boolean":
        text = "true or false"
    elif column.type == "datetime":
        text = "an ISO 8601 time with an offset, for example '2026-03-01T12:00:00Z', from 1970 to 2199"
    elif column.categories:
        text = f"one of {', '.join(map(repr, column.categories))}"
    else:
        text = f"text of 1 to {column.max_length} characters without control characters"
    return f"{text}, or null" if column.nullable else text


def hash_of(text: str) -> int:
    """64 bits that stand for a text among the amounts of an event; equal on every machine."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big", signed=True)
