from __future__ import annotations

from datetime import timedelta

from bentos.usecase import load_usecase
from flows.steps.demoplan import days_until_retraining, days_until_verdict, plan_demo
from flows.steps.split import days_needed, split_at

FRAUD = load_usecase("fraud")
DAY = timedelta(days=1)


def test_the_history_is_just_long_enough_for_a_first_training() -> None:
    plan = plan_demo(FRAUD)
    assert plan.history.length == (days_needed(FRAUD) + 2) * DAY
    assert split_at(FRAUD, plan.live_from).train.start - FRAUD.longest_window >= plan.history.start


def test_live_days_follow_the_history_without_a_gap() -> None:
    plan = plan_demo(FRAUD)
    assert plan.day(0).start == plan.history.end == plan.live.start
    assert plan.day(3).end == plan.day(4).start


def test_both_shifts_begin_on_the_declared_live_day() -> None:
    plan = plan_demo(FRAUD, shift_day=6, amount_scale=2.0)
    shifts = plan.simulator()["shifts"]
    assert [s.kind for s in shifts] == ["amount_scale", "fraud_scenario"]
    assert {s.day for s in shifts} == {plan.history_days + 6}
    assert shifts[0].factor == 2.0


def test_the_retraining_day_is_the_first_whose_training_fold_holds_enough_of_the_change() -> None:
    plan = plan_demo(FRAUD)
    change = plan.day(plan.shift_day).start
    first = change + days_until_retraining(FRAUD) * DAY
    wait = FRAUD.retrain.wait_after_change
    assert split_at(FRAUD, first).train.end - change >= wait
    assert split_at(FRAUD, first - DAY).train.end - change < wait


def test_the_verdict_waits_for_the_declared_matured_days() -> None:
    assert days_until_verdict(FRAUD) == FRAUD.promotion.min_matured_days + 7
