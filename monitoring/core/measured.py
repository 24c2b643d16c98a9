"""A figure with its interval, and the one rule for figures that are not there: they are ``None``.

A metric that cannot be computed (no positives, no alerts, not a number) is ``None`` and never a
default value. Whoever judges it must answer ``INSUFFICIENT``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self, TypeVar

import msgspec

from monitoring.core.hashing import canonical_json, sha256_hex

T = TypeVar("T")


def finite(value: float | None) -> float | None:
    """The value as a plain float, or ``None`` when it is missing, NaN or infinite."""
    if value is None or not math.isfinite(value):
        return None
    return float(value)


@dataclass(frozen=True)
class Measurement:
    """A value with the bounds of its interval; ``None`` is unknown or unbounded, and so are NaN and infinity."""

    value: float | None
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", finite(self.value))
        object.__setattr__(self, "low", finite(self.low))
        object.__setattr__(self, "high", finite(self.high))

    @property
    def known(self) -> bool:
        """Whether there is a value at all."""
        return self.value is not None


UNKNOWN = Measurement(None)


def to_plain(value: object) -> Any:
    """A frozen result as dictionaries, lists, text and numbers that JSON can hold."""
    return msgspec.to_builtins(value)


def from_plain(kind: type[T], data: object) -> T:
    """The frozen result that :func:`to_plain` wrote.

    Raises:
        ValueError: when the data does not describe a ``kind``; the message names the place.
    """
    try:
        return msgspec.convert(data, type=kind)
    except msgspec.ValidationError as exc:
        raise ValueError(f"not a stored {kind.__name__}: {exc}") from exc


class StoredResult:
    """A frozen result that is kept as JSON and named by its content."""

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON."""
        return digest_of(self)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; :meth:`from_json` gives an equal result."""
        plain: dict[str, Any] = to_plain(self)
        return plain

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """What :meth:`to_json` wrote; ``ValueError`` for anything else."""
        return from_plain(cls, data)


def digest_of(value: object) -> str:
    """SHA-256 of the canonical JSON of a frozen result."""
    return sha256_hex(canonical_json(to_plain(value)))
