"""Command lines of the documents: the argument parser of ``incumbent`` takes each as it is written."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest

from flows.cli import _parser
from flows.commands.catalogue import COMMANDS

ROOT = next(folder for folder in Path(__file__).parents if (folder / "pyproject.toml").exists())
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "deploy").glob("*.md")),
]
_BLOCK = re.compile(r"^```[a-z]*\n(.*?)^```|((?:^    .*\n)+)", re.MULTILINE | re.DOTALL)
_IN_A_BLOCK = re.compile(r"^\s*(?:\$ )?(?:[A-Z_]+=\S+ )*(incumbent .+?)(?:\s[|>]\s?.*|;.*|&&.*)?$", re.MULTILINE)
_IN_A_SENTENCE = re.compile(r"`(incumbent [^`]+)`")


@dataclass(frozen=True)
class Line:
    """A command line, where it stands, and whether it is whole."""

    page: str
    text: str
    whole: bool

    def words(self) -> list[str]:
        """Words of the line with what stands in brackets, the last of alternatives, and a number for N."""
        text = re.sub(r'"\$\w+"|\$\w+|\$\(.*?\)', "VALUE", self.text.replace("\n", " "))
        text = re.sub(r"\bN\b", "1", re.sub(r"\w+\|", "", re.sub(r"[\[\]]", "", text)))
        return shlex.split(text, comments=True)[1:]


def lines(page: Path) -> list[Line]:
    name, text = str(page.relative_to(ROOT)), page.read_text(encoding="utf-8")
    blocks = [a or b for a, b in _BLOCK.findall(text)]
    whole = [Line(name, line, True) for block in blocks for line in _IN_A_BLOCK.findall(block.replace("\\\n", " "))]
    parts = [
        Line(name, line, False) for line in _IN_A_SENTENCE.findall(re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
    ]
    return [*whole, *parts]


LINES = sorted({line for page in PAGES if page.name != "CHANGELOG.md" for line in lines(page)}, key=str)


def complaint(line: Line, capsys: pytest.CaptureFixture[str]) -> str:
    """What the parser says against a line; nothing where it takes it."""
    words = line.words()
    try:
        _parser(words).parse(words)
    except SystemExit as end:
        return "" if end.code == 0 else capsys.readouterr().err.strip().splitlines()[-1]
    return ""


def test_the_documents_hold_many_command_lines() -> None:
    assert len(LINES) > 100
    assert {line.words()[0] for line in LINES} <= {*COMMANDS, "--help", "--version"}


@pytest.mark.parametrize("line", LINES, ids=lambda line: f"{line.page}: {line.text}")
def test_a_command_line_is_taken_as_it_is_written(line: Line, capsys: pytest.CaptureFixture[str]) -> None:
    refusal = complaint(line, capsys)
    # A sentence may name a command without what it needs; it may not name one, or an option, that is not there.
    incomplete = not line.whole and re.search(
        r"arguments?( .*)? (are|is) required|expected (one|at least one) argument", refusal
    )
    assert not refusal or incomplete, refusal
