"""``plan`` and ``verdict FILE`` from the command line: neither needs a server, a registry or a database."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bentos.usecase.loading import builtin_usecases
from flows.cli import main
from tests.unit.flows.steps.comparison.test_judge_file import blocked, table, write

PLAN = ("plan", "--usecase", "fraud", "--prevalence", "0.005", "--events-per-day", "20000")


@pytest.mark.parametrize("effect", ["0", "-0.02", "1", "7", "nan"])
def test_an_effect_that_is_no_gain_is_wrong_usage(capsys: pytest.CaptureFixture[str], effect: str) -> None:
    assert main([*PLAN, f"--effect={effect}"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "a gain in recall between 0 and 1" in captured.err


def test_a_large_effect_is_planned_with_the_discordance_that_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PLAN, "--effect", "0.08", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["discordance"], found["sources"]["discordance"]) == (0.08, "the least that such a gain allows")
    assert found["exposure_days"] >= 14


def test_a_discordance_that_contradicts_the_effect_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PLAN, "--effect", "0.08", "--discordance", "0.05"]) == 2
    assert "needs a discordance" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--power=1", "power are shares"),
        ("--prevalence=0", "prevalence and power"),
        ("--events-per-day=0", "none a day"),
    ],
)
def test_a_plan_without_traffic_or_with_a_share_that_is_none_is_wrong_usage(
    capsys: pytest.CaptureFixture[str], option: str, words: str
) -> None:
    assert main([*PLAN, "--discordance", "0.06", "--effect", "0.02", option]) == 2
    assert words in capsys.readouterr().err


def blocking_case(folder: Path) -> str:
    text = builtin_usecases()["fraud"].read_text(encoding="utf-8") + "\n[intervention]\nblocks_flagged = true\n"
    (folder / "blocking.toml").write_text(text, encoding="utf-8")
    return str(folder / "blocking.toml")


def verdict(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main(["verdict", *words, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def flagged(frame: pd.DataFrame) -> pd.DataFrame:
    """The same table with decisions in place of thresholds."""
    return frame.assign(**{f"said_{side}": (frame[f"score_{side}"] >= 0.5).astype(int) for side in "ab"})


def test_a_verdict_by_flag_columns_is_that_of_the_thresholds_behind_them(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = str(write(flagged(table()), tmp_path, "flags.csv"))
    by_flags = verdict(
        capsys, file, "--usecase", "fraud", "--champion-flag", "said_a", "--challenger-flag", "said_b"
    )  # fmt: skip
    by_cuts = verdict(
        capsys, file, "--usecase", "fraud", "--champion-threshold", "0.5", "--challenger-threshold", "0.5"
    )  # fmt: skip
    assert (by_flags["outcome"], by_flags["thresholds"]) == ("promote", None)
    assert by_flags["verdict"]["checks"] == by_cuts["verdict"]["checks"]


def test_one_flag_column_without_the_other_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = str(write(flagged(table()), tmp_path))
    assert main(["verdict", file, "--usecase", "fraud", "--champion-flag", "said_a"]) == 1
    assert "--challenger-flag" in capsys.readouterr().err


def test_a_verdict_on_blocked_events_says_that_longer_watching_does_not_help(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    frame = table(rows=20_000, gain=0.0)
    rest = (frame["score_a"] < 0.5) & (frame["label"] == 1) & (np.random.default_rng(3).random(len(frame)) < 0.3)
    file = str(write(flagged(blocked(frame.assign(score_b=np.where(rest, 0.95, 0.1)))), tmp_path))
    words = (file, "--usecase", blocking_case(tmp_path), "--champion-flag", "said_a", "--challenger-flag", "said_b")
    found = verdict(capsys, *words)
    assert found["outcome"] == "keep_watching"
    checks = {check["name"]: check for check in found["verdict"]["checks"]}
    assert checks["identification"]["status"] == "INSUFFICIENT"
    assert "NOT_IDENTIFIED" in json.dumps(checks)
    assert main(["verdict", *words]) == 0
    assert "blocked without a label" in capsys.readouterr().out


def test_reported_actions_with_their_chances_are_read_by_the_command(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    frame = table(rows=20_000)
    hit = (frame["score_a"] >= 0.5).to_numpy()
    explored = hit & (np.random.default_rng(4).random(len(frame)) < 0.25)
    seen = frame.assign(
        done=np.where(explored, "explore", np.where(hit, "block", "let_through")), chance=np.where(hit, 0.25, 1.0),
        label=frame["label"].mask(hit & ~explored),
    )  # fmt: skip
    case = Path(blocking_case(tmp_path))
    case.write_text(case.read_text(encoding="utf-8") + "exploration_share = 0.25\n", encoding="utf-8")
    found = verdict(
        capsys, str(write(seen, tmp_path)), "--usecase", str(case), "--action", "done", "--propensity", "chance",
        "--champion-threshold", "0.5", "--challenger-threshold", "0.5",
    )  # fmt: skip
    assert (found["outcome"], found["result"]["unseen"]) == ("promote", 0.0)
