"""Change detectors over the stream of matured errors: Page-Hinkley, DDM and ADWIN, by river.

The only module that imports river, and only inside a function. What a detector says is a line of a
report; none of them may alert.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

MAX_ROWS: Final = 50_000
"""Errors that are looked at, the newest: a detector takes a few microseconds for each."""


@dataclass(frozen=True)
class Detection:
    """What one detector said of one stream.

    Attributes:
        detector: ``page_hinkley``, ``ddm`` or ``adwin``.
        values: errors that it looked at.
        changes: how often it declared a change.
        latest: event time of the row at which it last did, or none.
    """

    detector: str
    values: int
    changes: int
    latest: datetime | None


def detect_changes(errors: ArrayLike, times: Sequence[datetime]) -> tuple[Detection, ...]:
    """Run the three detectors, with river's defaults, over errors (0 or 1) in the order of event time."""
    from river.drift import ADWIN, PageHinkley
    from river.drift.binary import DDM

    stream = np.asarray(errors, dtype=int)[-MAX_ROWS:].tolist()
    newest_times = list(times)[-MAX_ROWS:]
    detectors: dict[str, Any] = {"page_hinkley": PageHinkley, "ddm": DDM, "adwin": ADWIN}
    return tuple(_run(name, detector(), stream, newest_times) for name, detector in detectors.items())


def _run(name: str, detector: Any, stream: list[int], times: list[datetime]) -> Detection:
    changes, latest = 0, None
    for error, event_time in zip(stream, times, strict=True):
        detector.update(error)
        if detector.drift_detected:
            changes, latest = changes + 1, event_time
    return Detection(name, len(stream), changes, latest)
