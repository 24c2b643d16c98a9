"""The guardrail of segments."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from monitoring.comparison.judge import judge_plan
from monitoring.comparison.segment_guardrail import check_segments, measure_segments
from monitoring.policies.promotion import PromotionPolicy
from monitoring.stats.bootstrap import Bootstrap
from tests.unit.monitoring.comparison.test_selective_labels import plan, traffic

POLICY = PromotionPolicy(min_matured_days=3, min_matured_positives=200)


def table(shares: dict[str, float], recall: dict[str, float], days: int = 20, seed: int = 1) -> pd.DataFrame:
    """Traffic in segments of these shares; the champion's recall is 0.6, the challenger's is ``recall``."""
    frame = traffic(days, share=None, seed=seed)
    rng = np.random.default_rng(seed + 100)
    names = list(shares)
    channel = np.array(names)[rng.choice(len(names), len(frame), p=list(shares.values()))]
    caught = rng.random(len(frame)) < np.array([recall[name] for name in channel])
    positive = frame["y"].to_numpy() == 1
    return frame.assign(channel=channel, flag_b=np.where(positive, caught, frame["flag_b"]))


def check(frame: pd.DataFrame, **changes: Any) -> Any:
    return check_segments(frame, ("channel",), POLICY.model_copy(update=changes), 0.1)


def test_a_gain_on_the_whole_does_not_hide_a_large_segment_that_loses() -> None:
    frame = table({"web": 0.8, "app": 0.2}, {"web": 0.9, "app": 0.3})
    found = check(frame)
    assert found.status == "FAIL"
    assert found.detail.startswith("channel = app: -0.")
    with_guard = replace(plan(), segments=("channel",), blocks_flagged=False)
    as_of = pd.Timestamp("2026-04-10", tz="UTC").to_pydatetime()
    judged = judge_plan(with_guard, frame, (), as_of=as_of, bootstrap=Bootstrap(10))
    assert judged.result.recall_gain.low is not None
    assert judged.result.recall_gain.low > 0.0
    assert judged.verdict.outcome == "keep"
    assert judged.verdict.reasons[0].startswith("slices: channel = app")
    options = {name: value for name, value in with_guard.promotion.items() if name != "slice_recall_margin"}
    old = replace(with_guard, promotion=options)
    names = {one.name for one in judge_plan(old, frame, (), as_of=as_of, bootstrap=Bootstrap(10)).verdict.checks}
    assert "slices" not in names  # a plan that was frozen without the guardrail is judged without it


def test_where_every_segment_gains_the_guardrail_holds() -> None:
    found = check(table({"web": 0.5, "app": 0.5}, {"web": 0.85, "app": 0.8}))
    assert (found.status, found.threshold) == ("PASS", -0.1)
    assert "the worst of 2 segments" in found.detail


def test_a_large_segment_that_may_lose_too_much_is_watched_longer_and_a_small_one_holds_up_nobody() -> None:
    frame = table({"web": 0.8, "app": 0.2}, {"web": 0.85, "app": 0.58}, days=6)
    assert check(frame, min_matured_positives=50).status == "INSUFFICIENT"
    assert check(frame, min_matured_positives=5_000).status == "PASS"


def test_a_small_segment_stops_a_promotion_only_where_its_loss_is_certain() -> None:
    frame = table({"web": 0.96, "app": 0.04}, {"web": 0.85, "app": 0.0}, days=30)
    assert check(frame, min_matured_positives=5_000).status == "FAIL"


def test_nothing_is_said_of_a_segment_with_few_positives_or_without_its_column() -> None:
    frame = table({"web": 0.9995, "app": 0.0005}, {"web": 0.85, "app": 0.0})
    assert [one.name for one in measure_segments(frame, ("channel",), POLICY)] == ["channel = web"]
    assert check_segments(frame, ("absent",), POLICY, 0.1) is None
    assert check_segments(frame.head(20), ("channel",), POLICY, 0.1) is None


@pytest.mark.parametrize("seed", range(4))
def test_equal_models_fail_no_segment(seed: int) -> None:
    names = [f"s{n}" for n in range(8)]
    frame = table(dict.fromkeys(names, 1 / 8), dict.fromkeys(names, 0.6), seed=seed)
    assert check(frame).status != "FAIL"


def test_weights_stand_for_the_events_that_were_not_seen() -> None:
    frame = table({"web": 0.5, "app": 0.5}, {"web": 0.9, "app": 0.9})
    doubled = pd.concat([frame, frame])
    one = measure_segments(doubled, ("channel",), POLICY)
    two = measure_segments(frame.assign(weight=2.0), ("channel",), POLICY)
    assert [a.gain.mean for a in one] == pytest.approx([b.gain.mean for b in two])
    assert [a.positives for a in one] == [2 * b.positives for b in two]
