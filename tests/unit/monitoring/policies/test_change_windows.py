from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from monitoring.policies.change_windows import hold_reason, is_open, next_opening
from monitoring.policies.promotion import PromotionPolicy

PARIS = ZoneInfo("Europe/Paris")
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)  # a Monday, 13:00 in Paris


def policy(**values: Any) -> PromotionPolicy:
    return PromotionPolicy(**values)


OFFICE = policy(allowed_hours=("09:00", "17:00"), allowed_weekdays=("monday", "tuesday"))


def test_without_rules_a_promotion_may_happen_at_any_time() -> None:
    assert hold_reason(policy(), PARIS, NOON) is None
    assert next_opening(policy(), PARIS, NOON) == NOON


def test_hours_are_local_start_included_end_excluded() -> None:
    def paris(hour: int, minute: int = 0) -> datetime:
        return datetime(2026, 3, 2, hour, minute, tzinfo=PARIS)

    assert [is_open(OFFICE, PARIS, paris(*t)) for t in ((8, 59), (9, 0), (16, 59), (17, 0))] == [
        False, True, True, False,
    ]  # fmt: skip
    assert next_opening(OFFICE, PARIS, paris(8)) == paris(9)
    assert next_opening(OFFICE, PARIS, paris(18)) == datetime(2026, 3, 3, 9, tzinfo=PARIS)


def test_the_message_names_the_rule_and_the_next_allowed_time() -> None:
    wednesday = NOON + timedelta(days=2)
    said = hold_reason(OFFICE, PARIS, wednesday)
    assert said is not None
    assert "wednesday" in said
    assert "the verdict stays open" in said
    assert "Monday 2026-03-09 09:00 CET" in said
    frozen = policy(freeze=((date(2026, 3, 1), date(2026, 3, 28)),))
    assert "frozen from 2026-03-01 to 2026-03-28" in (hold_reason(frozen, PARIS, NOON) or "")
    assert next_opening(frozen, PARIS, NOON) == datetime(2026, 3, 29, tzinfo=PARIS)


def test_a_freeze_covers_its_first_and_last_day_wholly() -> None:
    frozen = policy(freeze=((date(2026, 3, 2), date(2026, 3, 2)),))
    midnight = datetime(2026, 3, 2, tzinfo=PARIS)
    steps = [midnight - timedelta(seconds=1), midnight, midnight + timedelta(hours=23, minutes=59)]
    assert [is_open(frozen, PARIS, t) for t in steps] == [True, False, False]


def test_a_policy_that_never_opens_says_so() -> None:
    never = policy(freeze=((date(2020, 1, 1), date(2099, 1, 1)),))
    assert next_opening(never, PARIS, NOON) is None
    assert "no time within three years" in (hold_reason(never, PARIS, NOON) or "")


@given(st.integers(0, 364 * 24 * 60), st.integers(0, 22))
def test_the_next_opening_is_open_and_nothing_before_it_is(minute: int, hour: int) -> None:
    rules = policy(
        allowed_hours=(f"{hour:02d}:30", f"{hour + 1:02d}:00"),
        allowed_weekdays=("tuesday", "friday"),
        freeze=((date(2026, 3, 20), date(2026, 4, 2)),),
    )
    start = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minute)
    found = next_opening(rules, PARIS, start)
    assert found is not None
    assert found >= start
    # An opening inside the hour that the clocks skip begins when the hour is over.
    assert is_open(rules, PARIS, found) or found.astimezone(UTC).date() == date(2026, 3, 29)
    for minutes in range(0, int((found - start).total_seconds() / 60), 137):
        assert not is_open(rules, PARIS, start + timedelta(minutes=minutes))


@pytest.mark.parametrize(
    "wrong",
    [
        {"allowed_hours": ("17:00", "09:00")},
        {"allowed_hours": ("9", "17:00")},
        {"allowed_weekdays": ()},
        {"allowed_weekdays": ("Monday",)},
        {"freeze": ((date(2026, 2, 1), date(2026, 1, 1)),)},
    ],
)
def test_rules_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        policy(**wrong)
