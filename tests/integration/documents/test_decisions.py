"""Decision records: few, in one form, with dates, each in the index; whoever names one by number finds it."""

from __future__ import annotations

import re
import subprocess
from datetime import date
from pathlib import Path

import pytest

ROOT = next(folder for folder in Path(__file__).parents if (folder / "pyproject.toml").exists())
FOLDER = ROOT / "docs" / "explanation" / "decisions"
RECORDS = sorted(FOLDER.glob("[0-9]*.md"))
NUMBERS = [record.name[:4] for record in RECORDS]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.stem)
def test_a_record_has_the_parts_of_madr(record: Path) -> None:
    text = record.read_text(encoding="utf-8")
    assert re.match(rf"# {record.name[:4]}: \S", text)
    assert re.search(r"^- Status: (accepted|superseded by \d{4})$", text, re.MULTILINE)
    written = re.search(r"^- Date: (\S+)$", text, re.MULTILINE)
    assert written is not None
    assert date.fromisoformat(written[1]).year >= 2026
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]


def test_there_are_at_most_thirty_records_and_each_number_is_one() -> None:
    assert 0 < len(RECORDS) <= 30
    assert len(set(NUMBERS)) == len(NUMBERS)


def test_the_index_lists_each_record_under_its_area_with_date_and_title() -> None:
    rows: dict[str, tuple[str, str, str]] = {}
    area = ""
    for line in (FOLDER / "index.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            area = line[3:].lower()
        elif row := re.fullmatch(r"\| \[(\d{4})\]\((\S+)\) \| (\S+) \| (.+) \|", line):
            assert row[2].startswith(row[1])
            rows[row[2]] = (area, row[3], row[4])
    expected = {}
    for record in RECORDS:
        text = record.read_text(encoding="utf-8")
        facts = dict(re.findall(r"^- (Area|Date): (.+)$", text, re.MULTILINE))
        title = text.splitlines()[0].split(": ", 1)[1]
        expected[record.name] = (facts["Area"], facts["Date"], title)
    assert rows == expected


def test_a_decision_that_is_named_by_number_exists() -> None:
    names = subprocess.run(
        ["git", "grep", "-hoiE", r"decision 0[0-9]{3}"], cwd=ROOT, capture_output=True, check=True, text=True
    )
    named = {line[-4:] for line in names.stdout.splitlines()}
    assert named
    assert named <= set(NUMBERS)
