"""The simulation suite: what a rule errs at, what it finds, and the page that the tables go to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench.__main__ import main as bench
from tests.bench.quality.decisions import BEGIN, END, bench_decisions, error_rates, power_table, write_tables
from tests.support.builders import fraud


def test_daily_looks_ruin_the_customary_tests_and_not_ours() -> None:
    plain, clustered = error_rates(1.0, 500, 3), error_rates(3.0, 500, 3)
    assert plain["naive"][0] > 0.15
    assert clustered["naive"][0] > 0.7
    assert plain["naive_paired_t"][0] > 0.15
    for rule in ("anytime", "lan_demets"):
        for found in (plain, clustered):
            assert found[rule][0] < 0.085
            promoted = found[rule][1]
            assert promoted is not None
            assert promoted <= found[rule][0]
    assert plain["anytime"][0] < 0.05


def test_power_grows_with_effect_and_days() -> None:
    found = power_table(200, 5)
    for effects in found.values():
        assert list(effects) == ["0.01", "0.02", "0.03"]
        for row in effects.values():
            assert list(row.values()) == sorted(row.values())
        assert effects["0.01"]["60"] <= effects["0.02"]["60"] <= effects["0.03"]["60"]
    assert found["anytime"]["0.02"]["60"] > 0.9


def test_the_command_prints_the_keys_that_are_published(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    page = tmp_path / "statistics.md"
    page.write_text(f"# Statistics\n\nwords\n{BEGIN}\nold\n{END}\nmore words\n", encoding="utf-8")
    words = ["decisions", "--json", "--trials", "40", "--rows", "3000", "--usecase", "fraud"]
    assert bench([*words, "--write", str(page)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) >= {"false_promotion", "power", "paired_rows", "paired_s", "read_s", "paired_over_read"}
    for rule in ("naive", "anytime"):
        assert set(found["false_promotion"][rule]) == {"iid", "clustered"}
    assert found["paired_rows"] == 3000
    for looked in found["one_look"].values():
        assert set(looked) == {"0", "0.02"}
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# Statistics\n\nwords\n")
    assert text.endswith(f"{END}\nmore words\n")
    assert "| anytime-valid t (default) |" in text
    assert "the unpaired one in" in text
    assert "old" not in text


def test_a_page_without_markers_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "other.md"
    page.write_text("words\n", encoding="utf-8")
    found = bench_decisions(fraud(), trials=5, rows=0)
    with pytest.raises(ValueError, match="no lines"):
        write_tables(found, page)
    assert page.read_text(encoding="utf-8") == "words\n"


@pytest.mark.slow
def test_the_published_error_rates_hold_over_many_comparisons() -> None:
    plain, clustered = error_rates(1.0, 6000, 11), error_rates(3.0, 6000, 11)
    assert plain["naive_paired_t"][0] == pytest.approx(0.255, abs=0.02)
    assert plain["naive"][0] == pytest.approx(0.246, abs=0.03)
    assert clustered["naive"][0] == pytest.approx(0.868, abs=0.06)
    for found in (plain, clustered):
        assert found["anytime"][0] < 0.04
        assert found["lan_demets"][0] < 0.075
