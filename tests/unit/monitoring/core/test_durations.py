from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from monitoring.core.durations import Duration, format_duration, microseconds, parse_duration


class Waits(BaseModel):
    after: Duration


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("30s", timedelta(seconds=30)),
        ("90m", timedelta(minutes=90)),
        ("12h", timedelta(hours=12)),
        ("7d", timedelta(days=7)),
        ("0s", timedelta(0)),
    ],
)
def test_a_duration_is_a_whole_number_and_a_unit(text: str, value: timedelta) -> None:
    assert parse_duration(text) == value


@pytest.mark.parametrize(
    "value", ["", "7", "d", "7 d", "1.5d", "-7d", "7D", "7w", "7d ", "٧d", "9999999999d", "9" * 5000 + "d", 7, None]
)
def test_anything_else_is_refused_with_the_allowed_form(value: object) -> None:
    with pytest.raises(ValueError, match="for example '7d'"):
        parse_duration(value)


def test_the_longest_duration_that_can_be_written_is_readable() -> None:
    assert parse_duration("999999999d") == timedelta(days=999_999_999)


@pytest.mark.parametrize(
    ("text", "shown"), [("24h", "1d"), ("60m", "1h"), ("90m", "90m"), ("61s", "61s"), ("0d", "0s")]
)
def test_a_duration_is_shown_in_the_largest_unit_that_divides_it(text: str, shown: str) -> None:
    assert format_duration(parse_duration(text)) == shown


@given(st.integers(0, 10**9))
def test_showing_and_reading_a_duration_changes_nothing(seconds: int) -> None:
    value = timedelta(seconds=seconds)
    assert parse_duration(format_duration(value)) == value


def test_a_day_is_86_400_000_000_microseconds_even_across_a_clock_change() -> None:
    assert microseconds(parse_duration("1d")) == 86_400_000_000


def test_a_policy_field_reads_and_writes_the_short_form() -> None:
    assert Waits.model_validate({"after": "48h"}).model_dump_json() == '{"after":"2d"}'
    with pytest.raises(ValidationError, match="for example '7d'"):
        Waits.model_validate({"after": 3600})
    assert Waits.model_json_schema()["properties"]["after"]["examples"] == ["7d", "12h"]
