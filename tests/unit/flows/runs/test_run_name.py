"""Names of flow runs: the model of the environment, and the business time that was asked for or worked out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from flows.runs.run_name import RunName, time_text

KOREA = timezone(timedelta(hours=9))
MAY = datetime(2026, 5, 14, tzinfo=UTC)


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (MAY, "2026-05-14"),
        (MAY.replace(hour=6, minute=5), "2026-05-14 06:05 UTC"),
        (datetime(2026, 5, 14, 9, tzinfo=KOREA), "2026-05-14"),
        (datetime(2026, 5, 14, 0, tzinfo=KOREA), "2026-05-13 15:00 UTC"),
        (datetime(2026, 5, 14, 0, 30), "2026-05-14 00:30 UTC"),  # noqa: DTZ001  # a form may leave the zone out
    ],
)
def test_a_business_time_reads_as_a_date_or_a_minute_in_utc(at: datetime, text: str) -> None:
    assert time_text(at) == text


def test_a_run_is_named_by_its_model_and_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INCUMBENT_ENV", "staging")
    name = RunName("train {model} until {time}", "until")
    assert name.of({"usecase": "churn", "until": MAY}) == "train staging-churn until 2026-05-14"
    assert name.of({"usecase": "churn", "until": None}, MAY) == "train staging-churn until 2026-05-14"


def test_a_run_without_a_time_of_its_own_is_named_by_the_present_minute() -> None:
    before = datetime.now(UTC)
    name = RunName("labels at {time}", None).of({"usecase": "fraud"})
    assert name in {f"labels at {time_text(at)}" for at in (before, datetime.now(UTC))}


def test_a_use_case_that_cannot_be_read_leaves_its_reference_and_the_run_says_why() -> None:
    assert RunName("train {model}", "until").of({"usecase": "absent.toml"}) == "train absent.toml"
