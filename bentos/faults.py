"""Faults of the service itself: each leaves a line in the log and a count, and no value of an event."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Sequence

from bentos.http import translate
from monitoring.metrics import serving as metrics

log = logging.getLogger("incumbent.http")


def log_fault(path: str, error: Exception) -> None:
    """Log an error that the client is told as a fault of ours.

    Its text may hold a value of the event, so only its type and place are logged.
    """
    if translate(error).status == 500:
        frames = "".join(traceback.format_tb(error.__traceback__))
        log.error("%s failed: %s\n%s", path, type(error).__name__, frames)


def note_faults(path: str, said: Sequence[bytes | Exception]) -> None:
    """Count the events of a list; log and count those that got no answer by a fault of ours.

    The list itself is answered with 200, so nothing else would show them. An error that many events share is
    logged once.
    """
    faults = [one for one in said if not isinstance(one, bytes) and translate(one).status >= 500]
    for error in {id(one): one for one in faults}.values():
        log_fault(path, error)
    metrics.ANSWERS.add_list(len(said), len(faults))
    for one in faults:
        metrics.REFUSED.labels(path, translate(one).code).inc()
