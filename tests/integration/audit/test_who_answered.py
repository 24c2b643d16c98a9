"""One truth about who answered: log, audit and status name the same version for the same instant."""

from __future__ import annotations

from datetime import timedelta

import pytest

from flows.steps.reports.status import model_status
from monitoring.store import RoleChange, Store, memory_store
from monitoring.store.decisions.role_terms import holder_at, terms_between
from tests.support.builders import fraud
from tests.support.fakes import FakeRegistry
from tests.support.log.logged import at, days, scored

MODEL = "dev-fraud"
HOUR = 1 / 24


def seat(store: Store, version: str | None, day: float, kind: str = "promotion.champion_set") -> None:
    """A decision for a business time, as a flow makes it: for the end of the last whole day."""
    change = RoleChange(MODEL, "champion", version, None if version is None else "c" * 64)
    store.decisions.append("fraud", kind, {"model": MODEL}, "ann", at(day), [change])


def answer(store: Store, first: int, hours: int, day: float, version: str) -> None:
    """One answer an hour from the start of a day on."""
    rows = [scored(first + n, day + n * HOUR, version=version) for n in range(hours)]
    store.log.append(rows)


@pytest.fixture
def demo() -> Store:
    """Version 1 from day 0; promoted on day 1 and rolled back on day 9, while events of those days were under way.

    The decisions name the ends of whole days; five and seven hours of the next day were answered before the service
    had seen them.
    """
    store = memory_store()
    seat(store, "1", 0, "installation.champion_set")
    answer(store, 0, 24 + 5, 0, "1")
    seat(store, "2", 1)
    answer(store, 100, 8 * 24 - 5 + 7, 1 + 5 * HOUR, "2")
    seat(store, "1", 9, "rollback.champion_set")
    answer(store, 900, 90, 9 + 7 * HOUR, "1")
    return store


def test_at_each_answer_the_audit_and_the_status_name_the_version_that_answered(demo: Store) -> None:
    registry, usecase = FakeRegistry(), fraud()
    answers = demo.log.answers("fraud", days(0, 40))
    assert len(answers) == 24 + 5 + 8 * 24 + 2 + 90
    for when, version in zip(answers["event_time"], answers["version"], strict=True):
        assert holder_at(demo.database, MODEL, "champion", when) == version
        assert demo.decisions.role_at(MODEL, "champion", when) == version
    for when, version in list(zip(answers["event_time"], answers["version"], strict=True))[20:300:13]:
        found = model_status(demo, registry, usecase, MODEL, when.to_pydatetime())
        assert found.roles["champion"]["version"] == version


def test_terms_meet_where_the_answers_change(demo: Store) -> None:
    first, second, third = terms_between(demo.database, MODEL, at(-1), at(99), "champion")
    assert (first.until, second.until) == (second.since, third.since)
    assert at(1 + 4 * HOUR) < second.since <= at(1 + 5 * HOUR)
    assert at(9 + 6 * HOUR) < third.since <= at(9 + 7 * HOUR)
    assert third.until is None


def test_a_promotion_and_its_rollback_for_the_same_business_time_have_terms_of_their_own() -> None:
    store = memory_store()
    seat(store, "1", 0)
    seat(store, "2", 1)
    seat(store, "1", 1)
    answer(store, 0, 24 + 3, 0, "1")
    answer(store, 100, 60, 1 + 3 * HOUR, "2")
    answer(store, 200, 60, 1 + 63 * HOUR, "1")
    versions = [holder_at(store.database, MODEL, "champion", at(1 + hour * HOUR)) for hour in (0, 2, 3, 62, 63, 100)]
    assert versions == ["1", "1", "2", "2", "1", "1"]


def test_requests_in_flight_and_an_office_that_was_vacated_are_told_by_the_last_answer() -> None:
    store = memory_store()
    seat(store, "1", 0)
    answer(store, 0, 30, 0, "1")
    seat(store, None, 1, "repair")
    external = [scored(100 + n, 1 + (6 + n) * HOUR, model="score", alias="external") for n in range(60)]
    store.log.append(external)
    (term,) = terms_between(store.database, MODEL, at(0), at(99), "champion")
    assert term.until == at(29 * HOUR) + timedelta(microseconds=1)
    assert holder_at(store.database, MODEL, "champion", at(1 + 5 * HOUR)) == "1"
    assert holder_at(store.database, MODEL, "champion", at(1 + 6 * HOUR)) is None


def test_without_answers_a_term_is_what_was_decided() -> None:
    store = memory_store()
    seat(store, "1", 0)
    seat(store, "2", 1)
    first, second = terms_between(store.database, MODEL, at(0), at(99))
    assert (first.since, first.until, second.since, second.until) == (at(0), at(1), at(1), None)
