"""A verdict on a file: maturity, label times, thresholds, and what is refused with which words."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bentos.usecase.definition import UseCase
from bentos.usecase.options import InterventionPolicy
from flows.errors import FlowRefused
from flows.steps.comparison.judge_file import JudgeOptions, judge_file, read_pairs
from monitoring.policies import CapacityPolicy, CostModel
from tests.support.builders import fraud

ROOT = Path(__file__).parents[5]


def table(rows: int = 8000, days: int = 30, seed: int = 0, gain: float = 0.5) -> pd.DataFrame:
    """A challenger that ranks more of the positives high; labels come three days after the event."""
    rng = np.random.default_rng(seed)
    at = pd.Timestamp("2026-03-01", tz="UTC") + pd.to_timedelta(np.sort(rng.integers(0, days * 86_400, rows)), unit="s")
    y = rng.random(rows) < 0.1
    score = rng.random(rows) * 0.4 + 0.55 * (y & (rng.random(rows) < 0.5))
    better = np.where(y & (rng.random(rows) < gain), 0.95, score)
    return pd.DataFrame(
        {
            "event_id": [f"{n:05d}" for n in range(rows)],
            "event_time": at.astype("datetime64[us, UTC]"),
            "score_a": score,
            "score_b": better,
            "label": np.where(y, 1.0, np.nan),
            "label_time": (at + pd.Timedelta(days=3)).astype("datetime64[us, UTC]").where(y),
        }
    )


def write(frame: pd.DataFrame, folder: Path, name: str = "own.parquet") -> Path:
    path = folder / name
    frame.to_parquet(path) if name.endswith("parquet") else frame.to_csv(path, index=False)
    return path


HALF = JudgeOptions(thresholds=(0.5, 0.5))


def case(**changes: Any) -> UseCase:
    usecase = fraud()
    return usecase.model_copy(update=changes)


def test_csv_and_parquet_give_the_same_verdict(tmp_path: Path) -> None:
    frame = table()
    (one, read, _), (other, _, _) = (
        judge_file(fraud(), write(frame, tmp_path, name), HALF) for name in ("own.parquet", "own.csv")
    )
    assert one.verdict.outcome == "promote"
    assert other.verdict.digest == one.verdict.digest
    assert read.counts["rows"] == 8000
    assert read.counts["immature"] > 0
    assert (one.result.champion, one.result.challenger) == ("score_a", "score_b")
    assert one.verdict.plan_hash


def test_times_without_a_zone_are_local_times_of_the_use_case(tmp_path: Path) -> None:
    frame = table()
    local = frame["event_time"].dt.tz_convert("Europe/Paris").dt.tz_localize(None)
    path = write(frame.assign(event_time=local), tmp_path)
    read = read_pairs(case(timezone="Europe/Paris"), path, HALF)
    assert (read.rows["event_time"] == frame["event_time"].iloc[: len(read.rows)]).all()


def test_equal_models_are_not_promoted(tmp_path: Path) -> None:
    judged, _, _ = judge_file(fraud(), write(table(gain=0.0), tmp_path), HALF)
    assert judged.verdict.outcome != "promote"


def test_an_early_label_does_not_let_a_young_event_in(tmp_path: Path) -> None:
    frame = table()
    frame["label_time"] = frame["event_time"].where(frame["label"].notna()) + pd.Timedelta(minutes=5)
    asked = JudgeOptions(thresholds=(0.5, 0.5), as_of=pd.Timestamp("2026-03-20", tz="UTC").to_pydatetime())
    read = read_pairs(fraud(), write(frame, tmp_path), asked)
    assert read.rows["event_time"].max() < pd.Timestamp("2026-03-13", tz="UTC")


def test_a_label_that_came_later_is_not_known_yet(tmp_path: Path) -> None:
    frame = table()
    frame["label_time"] += pd.Timedelta(days=100)
    asked = JudgeOptions(thresholds=(0.5, 0.5), as_of=pd.Timestamp("2026-04-20", tz="UTC").to_pydatetime())
    read = read_pairs(fraud(), write(frame, tmp_path), asked)
    assert read.rows["y"].sum() == 0
    assert read.counts["unlabelled"] == len(read.rows)


def test_where_absence_is_unknown_rows_without_a_label_are_left_out(tmp_path: Path) -> None:
    usecase = fraud()
    usecase = case(label=usecase.label.model_copy(update={"absent_after_maturity": "unknown"}))
    read = read_pairs(usecase, write(table(), tmp_path), HALF)
    assert read.rows["y"].all()


def test_thresholds_come_from_a_share_or_from_the_capacity_and_the_reader_is_told(tmp_path: Path) -> None:
    path = write(table(), tmp_path)
    read = read_pairs(fraud(), path, JudgeOptions(alert_rate=0.05))
    assert read.rows["flag_a"].mean() == pytest.approx(0.05, abs=0.002)
    assert read.rows["flag_b"].mean() <= 0.05
    assert "not promoted beforehand" in read.notes[0]
    by_capacity = read_pairs(fraud(), path, JudgeOptions())
    assert by_capacity.rows.groupby("day")["flag_a"].sum().mean() == pytest.approx(100, abs=2)


def test_no_capacity_and_no_threshold_is_refused_with_advice(tmp_path: Path) -> None:
    usecase = case(capacity=fraud().capacity.model_copy(update={"alerts_per_day": None}))
    with pytest.raises(FlowRefused, match="--alert-rate"):
        judge_file(usecase, write(table(), tmp_path), JudgeOptions())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.drop(columns="score_b"), "--challenger-score"),
        (lambda f: f.assign(label=2.0), "must hold 1 for positive"),
        (lambda f: f.assign(score_a="high"), "score_a .* must hold numbers"),
        (lambda f: pd.concat([f, f.tail(3)]), "3 rows .* repeat an event id"),
        (lambda f: f.assign(event_time="yesterday"), "something else than ISO times"),
        (lambda f: f.assign(event_time=f["event_time"].where(f.index > 1)), "2 rows .* have no event time"),
        (lambda f: f.head(20), "has matured by .* need 7d, .* younger .20 of 20."),
        (lambda f: f.head(0), "holds no rows"),
        (lambda f: f.assign(label="yes"), "column label .* must hold 1 for positive"),
        (lambda f: f.assign(event_time=range(len(f))), "column event_time .* holds numbers"),
        (lambda f: f.assign(amount="12,50"), "column amount .* must hold numbers"),
        (lambda f: f.assign(TX_AMOUNT="12,50"), "column TX_AMOUNT .* must hold numbers"),
    ],
)
def test_what_cannot_be_judged_is_refused_in_plain_words(change: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(FlowRefused, match=words):
        judge_file(fraud(), write(change(table()), tmp_path), HALF)


def test_a_file_without_any_row_is_refused_as_csv_too(tmp_path: Path) -> None:
    with pytest.raises(FlowRefused, match="holds no rows"):
        judge_file(fraud(), write(table().head(0), tmp_path, "none.csv"), HALF)


def test_a_file_with_another_separator_is_told_so(tmp_path: Path) -> None:
    table().to_csv(tmp_path / "semi.csv", index=False, sep=";")
    with pytest.raises(FlowRefused, match="separated by semicolons"):
        judge_file(fraud(), tmp_path / "semi.csv", HALF)


def test_entities_and_amounts_are_found_by_the_names_that_the_source_gives_them(tmp_path: Path) -> None:
    frame = table()
    more = {"customer_id": [f"c{n % 50}" for n in range(len(frame))], "amount": np.arange(len(frame)) % 300 + 1.0}
    ours = judge_file(fraud(), write(frame.assign(**more), tmp_path), HALF)
    outside = frame.assign(**more).rename(columns={"customer_id": "CUSTOMER_ID", "amount": "TX_AMOUNT"})
    theirs = judge_file(fraud(), write(outside, tmp_path), HALF)
    assert ours[2].entity == "customer_id"
    assert theirs[2] == ours[2]
    assert theirs[0].result == ours[0].result


def test_equal_scores_that_leave_a_model_without_flags_are_told(tmp_path: Path) -> None:
    path = write(table().assign(score_b=0.5), tmp_path)
    notes = read_pairs(fraud(), path, JudgeOptions(alert_rate=0.04)).notes
    assert any("scores of the challenger are equal" in note and "0.000%" in note for note in notes)
    assert not any("champion are equal" in note for note in notes)


def test_files_that_are_no_tables_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FlowRefused, match="no such file"):
        judge_file(fraud(), tmp_path / "absent.csv", HALF)
    (tmp_path / "x.parquet").write_text("no")
    with pytest.raises(FlowRefused, match="neither readable"):
        judge_file(fraud(), tmp_path / "x.parquet", HALF)


def test_a_cost_column_that_the_file_lacks_is_named(tmp_path: Path) -> None:
    usecase = case(cost=CostModel(false_negative="amount"))
    with pytest.raises(FlowRefused, match="column amount"):
        judge_file(usecase, write(table(), tmp_path), HALF)
    judged, _, plan = judge_file(usecase, write(table().assign(amount=7.0), tmp_path), HALF)
    assert (plan.cost_cap, judged.result.cost_cap) == (7.0, 7.0)


def test_the_command_needs_neither_server_nor_registry_nor_heavy_libraries(tmp_path: Path) -> None:
    path, page = write(table(), tmp_path, "own.csv"), str(tmp_path / "v.html")
    heavy = "prefect mlflow bentoml xgboost sklearn evidently matplotlib sqlalchemy scipy.stats"
    script = (
        "import sys; from flows.cli import main; "
        f"code = main(['verdict', {str(path)!r}, '--usecase', 'fraud', '--json', '--html', {page!r}]); "
        f"loaded = [m for m in {heavy.split()!r} if m in sys.modules]; assert not loaded, loaded; sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    import json

    assert json.loads(done.stdout)["outcome"] == "promote"
    assert "Appendix: not used in the decision" in (tmp_path / "v.html").read_text(encoding="utf-8")


def blocking(share: float = 0.0) -> UseCase:
    return case(intervention=InterventionPolicy(blocks_flagged=True, exploration_share=share))


def blocked(frame: pd.DataFrame) -> pd.DataFrame:
    """The table of a champion that blocks: what it flagged never earned a label."""
    flagged = frame["score_a"] >= 0.5
    return frame.assign(label=frame["label"].mask(flagged), label_time=frame["label_time"].mask(flagged))


def test_where_flagged_events_are_blocked_a_worse_challenger_does_not_win_by_their_silence(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    frame = table(rows=20_000, gain=0.0)
    # It finds none of what the champion blocks, and a little of the rest.
    rest = (frame["score_a"] < 0.5) & (frame["label"] == 1) & (rng.random(len(frame)) < 0.3)
    path = write(blocked(frame.assign(score_b=np.where(rest, 0.95, 0.1))), tmp_path)
    naive, _, _ = judge_file(fraud(), path, HALF)
    assert naive.verdict.outcome == "promote"
    judged, reading, plan = judge_file(blocking(), path, HALF)
    assert plan.blocks_flagged
    assert judged.verdict.outcome == "keep_watching"
    assert judged.verdict.check("identification").status == "INSUFFICIENT"
    assert "taken for blocked" in reading.notes[-1]
    assert judged.result.unseen == int(reading.rows["unseen"].sum()) > 500


def test_with_a_draw_in_the_file_the_weighted_verdict_is_that_of_the_whole_truth(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    frame = table(rows=20_000)
    flagged = (frame["score_a"] >= 0.5).to_numpy()
    explored = flagged & (rng.random(len(frame)) < 0.25)
    done = np.where(explored, "explore", np.where(flagged, "block", "let_through"))
    seen = frame.assign(
        action=done, propensity=np.where(flagged, 0.25, 1.0), label=frame["label"].mask(flagged & ~explored)
    )
    whole, _, _ = judge_file(fraud(), write(frame, tmp_path, "whole.parquet"), HALF)
    part, reading, _ = judge_file(blocking(0.25), write(seen, tmp_path, "seen.parquet"), HALF)
    assert whole.verdict.outcome == part.verdict.outcome == "promote"
    assert part.result.unseen == 0
    assert part.result.recall_gain.low is not None
    assert part.result.recall_gain.low < whole.result.recall_gain.mean < part.result.recall_gain.high
    assert reading.notes == ()


def test_decisions_in_the_file_stand_for_any_rule_and_no_threshold_is_asked_for(tmp_path: Path) -> None:
    usecase = case(cost=CostModel(false_negative="amount"), capacity=CapacityPolicy())
    frame = table()
    amount = np.random.default_rng(2).gamma(2.0, 50.0, len(frame))
    cut = 5.0 / (5.0 + amount)
    flags = {f"flag_{side}": (frame[f"score_{side}"] >= cut).astype(int) for side in "ab"}
    path = write(frame.assign(amount=amount, **flags), tmp_path, "flags.csv")
    judged, reading, _ = judge_file(usecase, path, JudgeOptions())
    assert reading.thresholds is None
    assert (reading.rows["flag_a"] == flags["flag_a"].iloc[: len(reading.rows)].astype(bool)).all()
    assert judged.result.recall_champion.value is not None
    with pytest.raises(FlowRefused, match="--challenger-flag"):
        judge_file(usecase, write(frame.assign(amount=amount, flag_a=1), tmp_path, "half.csv"), JudgeOptions())


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"action": "stop"}, "one of block, let_through, explore"),
        ({"propensity": 0.5}, "no column that says what was done"),
        ({"action": "explore"}, "not the chance they had"),
        ({"action": "explore", "propensity": 0.0}, "the chance of being let through"),
        ({"action": "block", "propensity": 7.0}, "the chance of being let through"),
        ({"flag_a": 2, "flag_b": 1}, "must hold 1 where the model flagged"),
    ],
)
def test_what_was_done_is_read_strictly(columns: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(FlowRefused, match=words):
        judge_file(blocking(), write(table().assign(**columns), tmp_path), HALF)
