"""What a serving process tells of its own latest answers."""

from __future__ import annotations

import pytest

from monitoring.metrics.serving import RecentAnswers, RequestTally


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_failures_and_the_percentile_of_single_events_are_told() -> None:
    recent = RecentAnswers(Clock())
    recent.told("7")
    tally = RequestTally(lambda: None, dict, recent)
    for number in range(1000):
        tally.add("/score", 500 if number < 5 else 200, 0.002 if number < 985 else 0.08)
    tally.add("/score/batch", 500, 9.0)
    said = recent.told("7")
    assert (said["requests"], said["failed"]) == (1000, 5)
    assert said["p99_ms"] == pytest.approx(80, rel=0.1)


def test_only_the_latest_minutes_count() -> None:
    clock = Clock()
    recent = RecentAnswers(clock, seconds=60.0)
    recent.told("7")
    recent.add(500, 0.01)
    clock.now += 60
    assert recent.told("7")["failed"] == 1
    recent.add(200, 0.01)
    clock.now += 60
    assert recent.told("7") == {"requests": 1, "failed": 0, "p99_ms": pytest.approx(10, rel=0.1)}


def test_another_version_starts_anew() -> None:
    recent = RecentAnswers(Clock())
    recent.told("7")
    recent.add(500, 0.01)
    assert recent.told("8") == {"requests": 0, "failed": 0, "p99_ms": None}


def test_events_of_lists_count_as_requests_and_have_no_time() -> None:
    recent = RecentAnswers(Clock())
    recent.add_list(100, 2)
    assert recent.told(None) == {"requests": 100, "failed": 2, "p99_ms": None}
    recent.add(200, 0.001)
    told = recent.told(None)
    assert (told["requests"], told["failed"]) == (101, 2)
    assert told["p99_ms"] == pytest.approx(1.0, rel=0.11)
