from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench.__main__ import main as bench
from tests.bench.quality.drift_alarms import BEGIN, END, write_table


@pytest.mark.slow
def test_the_command_prints_the_published_keys_and_writes_the_page(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    page = tmp_path / "statistics.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    few = ["--years", "1", "--trials", "2", "--checks", "0"]
    assert bench(["alarms", *few, "--write", str(page), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    for rule in ("bare", "evidently", "evidently_dataset", "ours"):
        assert set(found[rule]) == {"200", "1000", "10000"}
        for row in found[rule].values():
            assert {"alarms_per_year", "days_to_notice"} <= set(row)
            assert set(row["days_to_notice"]) == {"0.25", "0.5", "1"}
    assert found["ours"]["1000"]["alarms_per_year"] <= 12
    assert found["ours"]["1000"]["days_to_notice"]["1"] == 2
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert "ours" in text
    page.write_text("no markers", encoding="utf-8")
    with pytest.raises(ValueError, match="has no lines"):
        write_table(found, page)


def test_the_bench_of_alarms_needs_something_to_simulate() -> None:
    assert bench(["alarms", "--years", "0"]) == 2
