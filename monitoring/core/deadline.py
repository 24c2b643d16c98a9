"""Ask many things at once and wait no longer than a deadline, whatever hangs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from queue import Empty, SimpleQueue
from typing import TypeVar

T = TypeVar("T")


def run_within(jobs: Mapping[str, Callable[[], T]], seconds: float) -> dict[str, T]:
    """Run every job in a thread of its own; the results of those that ended in time, by name.

    A job that hangs is left behind: its thread is a daemon, so it holds up neither the caller nor the end of the
    process. Jobs must not raise; one that does counts as one that did not end.
    """
    finished_jobs: SimpleQueue[tuple[str, T]] = SimpleQueue()

    def start(name: str, job: Callable[[], T]) -> None:
        threading.Thread(target=lambda: finished_jobs.put((name, job())), name=f"look-{name}", daemon=True).start()

    end = time.monotonic() + seconds
    for name, job in jobs.items():
        start(name, job)
    results: dict[str, T] = {}
    while len(results) < len(jobs):
        try:
            name, result = finished_jobs.get(timeout=max(0.0, end - time.monotonic()))
        except Empty:
            break
        results[name] = result
    return results
