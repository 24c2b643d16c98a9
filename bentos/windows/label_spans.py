"""When an event counts as a known positive, from everything that was ever said about it.

At any moment the strongest source that has spoken decides (rank 0 is the strongest). A source that
contradicts itself leaves the event unknown from then on: it is not counted as positive, as training
excludes it. The order in which labels arrive does not matter, only when they were observed.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

FOREVER = 2**62
"""End of a span that nothing has ended."""

LabelStatement = tuple[int, int, int]
"""One label: (observed_at in microseconds, rank of its source, y)."""


def positive_spans(statements: Iterable[LabelStatement]) -> tuple[tuple[int, int], ...]:
    """Spans ``[start, end)`` of microseconds in which the event is a known positive.

    Examples:
        >>> positive_spans([(10, 1, 1), (30, 0, 0)])
        ((10, 30),)
    """
    spans: list[tuple[int, int]] = []
    strongest_rank, y, start = 1 << 30, 0, 0
    for moment, group in groupby(sorted(statements), key=lambda label: label[0]):
        was_positive = y
        for _, rank, value in group:
            if rank < strongest_rank:
                strongest_rank, y = rank, value
            elif rank == strongest_rank:
                y = min(y, value)
        if y and not was_positive:
            start = moment
        elif was_positive and not y:
            spans.append((start, moment))
    if y:
        spans.append((start, FOREVER))
    return tuple(spans)
