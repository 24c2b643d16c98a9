"""``incumbent init``: from a table with odd names to an active model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bentos.check.usecase import check_usecase
from bentos.usecase.loading import load_usecase
from flows.cli import main
from flows.sources import open_source
from flows.steps.onboarding.profile_table import guess_table


def loans(rows: int = 3000) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    amount = rng.integers(500, 40_000, rows)
    bad = rng.random(rows) < amount / 60_000
    times = pd.date_range("2025-01-01", periods=rows, freq="3h", tz="UTC")
    return pd.DataFrame(
        {
            "Loan Ref.": [f"LN/{n:06d}" for n in range(rows)],
            "Applicant's Income (EUR)": np.where(rng.random(rows) < 0.05, np.nan, rng.normal(30_000, 5_000, rows)),
            "Amt-Requested": amount,
            "Purpose?": rng.choice(["car", "home"], rows),
            "Notes": [f"called at {n}" for n in range(rows)],
            "Applied On": times.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "Went Bad": np.where(bad, "bad", "ok"),
        }
    )


@pytest.mark.parametrize("timed", [True, False])
def test_the_first_file_can_be_checked_and_reads_every_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], timed: bool
) -> None:
    data, out = tmp_path / "loans.csv", tmp_path / "loans.toml"
    loans().drop(columns=[] if timed else ["Applied On"]).to_csv(data, index=False)
    assert main(["init", "loans", "--from", str(data), "--out", str(out), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["target"], said["event_id"]) == ("Went Bad", "loan_ref")
    assert len(said["next"]) == 3
    usecase = load_usecase(out)
    assert check_usecase(usecase).passed
    assert usecase.untimed is not timed
    assert {c.type for c in usecase.columns} >= {"identifier", "float", "integer", "category"}
    source = open_source(usecase)
    read = source.read(source.extent())
    assert len(read.events) == len(read.labels) == 3000
    assert read.quarantine.empty


def test_an_existing_file_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = tmp_path / "loans.csv", tmp_path / "loans.toml"
    loans(200).to_csv(data, index=False)
    out.write_text("mine")
    assert main(["init", "loans", "--from", str(data), "--out", str(out)]) == 2
    assert out.read_text() == "mine"
    assert "nothing is overwritten" in capsys.readouterr().err


def test_a_table_without_a_binary_column_is_refused_with_what_to_do() -> None:
    table = pd.DataFrame({"id": [str(n) for n in range(9)], "kind": list("abcabcabc")})
    with pytest.raises(ValueError, match="--target"):
        guess_table([table])
