from __future__ import annotations

from datetime import timedelta

import pytest

from bentos.usecase.definition import UseCase
from bentos.usecase.loading import load_usecase
from flows.demo.plan import days_until_retraining, days_until_verdict, plan_demo
from flows.steps.data.split import days_needed, split_at

FRAUD, CHURN = load_usecase("fraud"), load_usecase("churn")
DAY = timedelta(days=1)


@pytest.mark.parametrize("usecase", [FRAUD, CHURN], ids=["fraud", "churn"])
def test_the_history_is_just_long_enough_for_a_first_training(usecase: UseCase) -> None:
    plan = plan_demo(usecase)
    assert plan.history.length == (days_needed(usecase) + 2) * DAY
    assert split_at(usecase, plan.live_from).train.start - usecase.longest_window >= plan.history.start


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


@pytest.mark.parametrize("usecase", [FRAUD, CHURN], ids=["fraud", "churn"])
def test_the_retraining_day_is_the_first_whose_training_fold_holds_enough_of_the_change(usecase: UseCase) -> None:
    plan = plan_demo(usecase)
    change = plan.day(plan.shift_day).start
    first = change + days_until_retraining(usecase) * DAY
    wait = usecase.retrain.wait_after_change
    assert split_at(usecase, first).train.end - change >= wait
    assert split_at(usecase, first - DAY).train.end - change < wait


def test_each_use_case_lives_in_its_own_world() -> None:
    plan = plan_demo(CHURN, price_rise=1.5)
    assert plan.simulator()["world"] == "telco"
    assert [s.kind for s in plan.simulator()["shifts"]] == ["price_rise", "rival_offer"]
    assert plan.simulator()["shifts"][0].factor == 1.5
    assert plan_demo(FRAUD).simulator()["world"] == "cards"


def test_the_verdict_waits_for_the_declared_matured_days() -> None:
    assert days_until_verdict(FRAUD) == FRAUD.promotion.min_matured_days + 7
