"""Evidently's report under our own header, on a real Evidently."""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import monitoring.reports.evidently_report
from monitoring.drift.feature_drift import combine_windows, compare_profile
from monitoring.drift.reference_profile import ReferenceProfile
from monitoring.errors import ReportFailed
from monitoring.policies import DriftPolicy
from monitoring.reports.evidently_report import DriftHeading, DriftPage, write_drift_report

POLICY = DriftPolicy()
NUMBERS = ["amount", "count"]


def frame(rows: int, seed: int, scale: float = 1.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    data = pd.DataFrame(
        {
            "amount": (rng.lognormal(3, 1, rows) * scale).astype(np.float32),
            "count": rng.poisson(3, rows).astype(np.float32),
            "channel": rng.choice(["web", "shop"], rows),
            "empty": np.full(rows, np.nan, np.float32),
            "y": (rng.random(rows) < 0.1).astype(int),
        }
    )
    data["score"] = np.clip(rng.random(rows) * 0.5 + 0.3 * data["y"], 0, 1)
    data["flag"] = (data["score"] > 0.4).astype(int)
    return data


REFERENCE, CURRENT = frame(3000, 1), frame(1000, 2, scale=2.0)
PROFILE = ReferenceProfile.fit(REFERENCE[[*NUMBERS, "channel"]], None, POLICY)


def test_the_report_holds_our_verdict_evidently_and_the_reason_they_differ(tmp_path: Path) -> None:
    report = compare_profile(PROFILE, CURRENT, POLICY)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        page = DriftPage(
            REFERENCE,
            CURRENT,
            numerical=[*NUMBERS, "empty"],
            categorical=["channel"],
            heading=DriftHeading("Drift of dev-fraud/1", report, combine_windows([report], POLICY)),
            target="y",
            prediction="flag",
            score="score",
        )
        info = write_drift_report(tmp_path / "drift.html", page, max_rows=800)
    html = info.path.read_text(encoding="utf-8")
    assert "Drift of dev-fraud/1" in html
    assert "This window:" in html
    assert "only ours decides" in html
    assert info.rows == (800, 800)
    assert info.left_out == ("empty",)
    assert sum(info.tests.values()) > 10
    assert 'src="http' not in html
    assert 'href="http' not in html.split("<script", 1)[0]


def test_a_window_that_evidently_cannot_take_still_has_a_page(tmp_path: Path) -> None:
    report = compare_profile(PROFILE, CURRENT.head(0), POLICY)
    page = DriftPage(REFERENCE, CURRENT.head(0), NUMBERS, ["channel"], DriftHeading(report=report))
    info = write_drift_report(tmp_path / "drift.html", page)
    html = info.path.read_text(encoding="utf-8")
    assert "Insufficient data: 0 rows" in html
    assert info.tests == {}
    assert info.left_out == ("amount", "count", "channel")


def test_one_class_leaves_the_quality_part_out(tmp_path: Path) -> None:
    page = DriftPage(REFERENCE.assign(y=0), CURRENT, NUMBERS, target="y", prediction="flag", score="score")
    info = write_drift_report(tmp_path / "drift.html", page)
    assert info.path.exists()


def test_the_sample_is_seeded() -> None:
    one, other = (monitoring.reports.evidently_report._sample(REFERENCE, 100, 3) for _ in range(2))
    assert one.equals(other)
    assert len(one) == 100


def test_what_evidently_refuses_is_an_error_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> None:
        raise ValueError("bad column")

    monkeypatch.setattr(monitoring.reports.evidently_report, "_run_evidently", broken)
    with pytest.raises(ReportFailed, match="bad column"):
        write_drift_report(tmp_path / "drift.html", DriftPage(REFERENCE, CURRENT, NUMBERS))
    assert not (tmp_path / "drift.html").exists()


def heavy(rows: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    amount = rng.lognormal(3, 1.5, rows)
    amount[0] = 1e6  # one large amount makes bins of equal width useless
    return pd.DataFrame({"amount": amount.astype(np.float32), "delay": rng.gamma(2, 2, rows).astype(np.float32)})


def test_the_page_says_for_each_feature_why_evidently_s_band_is_another(tmp_path: Path) -> None:
    reference, current = heavy(5000, 1), heavy(4000, 2)
    current["amount"] *= 2
    current.loc[current.index % 2 == 0, "delay"] = np.nan
    profile = ReferenceProfile.fit(reference, None, POLICY, importance=[1.0, 3.0])
    report = compare_profile(profile, current, POLICY)
    assert [f.band for f in report.features] == ["warning", "severe"]
    heading = DriftHeading(report=report, sections=["<section><h2>A part of ours</h2></section>"])
    info = write_drift_report(
        tmp_path / "drift.html", DriftPage(reference, current, ["amount", "delay"], heading=heading)
    )
    html = info.path.read_text(encoding="utf-8")
    assert set(info.disagree) == {"amount", "delay"}
    assert "severe here, none there: missing values went from 0.0% to 50.0%, and Evidently leaves them out" in html
    assert "its bins of equal width over both samples put most rows into few bins" in html
    assert "A part of ours" in html
    assert html.index(">delay<") < html.index(">amount<"), "the more important drift is first"
    assert "75.0%" in html


def test_matured_rows_have_a_part_on_classification_quality(tmp_path: Path) -> None:
    plain = ["amount", "count"]
    matured = CURRENT[["y", "score"]].assign(decision=CURRENT["flag"].astype(bool))
    heading = DriftHeading(report=compare_profile(PROFILE, CURRENT, POLICY))
    page = DriftPage(REFERENCE, CURRENT[plain], plain, heading=heading, matured=matured)
    info = write_drift_report(tmp_path / "one.html", page)
    html = info.path.read_text(encoding="utf-8")
    assert "Classification quality of 1,000 matured rows" in html
    assert "<iframe" in html
    assert "Recall" in html
    one_class = matured.assign(y=0)
    info = write_drift_report(tmp_path / "two.html", replace(page, matured=one_class))
    assert "do not hold both classes" in info.path.read_text(encoding="utf-8")
