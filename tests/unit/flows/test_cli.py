from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bentos.usecase.loading import load_usecase
from flows.cli import COMMANDS, main
from flows.commands.common import Reply, UsageRefused, instant, show, table


def run(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", *words], capture_output=True, text=True, cwd=cwd, check=False
    )


def test_help_names_every_command_and_imports_nothing_heavy() -> None:
    code = """
import sys
from flows.cli import main
try:
    main(["--help"])
except SystemExit:
    pass
heavy = {"pandas", "numpy", "pydantic", "prefect", "mlflow", "xgboost", "bentoml", "sqlalchemy"} & set(sys.modules)
print("heavy:", sorted(heavy))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "heavy: []" in done.stdout
    for name in COMMANDS:
        assert f" {name} " in done.stdout


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help_and_the_common_arguments(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    assert end.value.code == 0
    assert COMMANDS[name][1].lower()[:10] in capsys.readouterr().out.lower()


def test_wrong_usage_ends_with_code_2() -> None:
    done = run("train", "--nonsense")
    assert done.returncode == 2
    assert "unrecognized arguments" in done.stderr


def test_no_command_shows_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "incumbent" in capsys.readouterr().out


def test_a_refusal_is_one_line_on_standard_error_with_code_1(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_text('name = "x"\n')
    done = run("check", str(file), cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1
    assert str(file) in done.stderr


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = run("check", str(tmp_path / "absent.toml"), "--debug", cwd=tmp_path)
    assert "Traceback" in done.stderr


def test_json_replies_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    show(Reply({"a": 1, "b": None}), as_json=True)
    out = capsys.readouterr().out
    assert json.loads(out) == {"a": 1, "b": None}
    assert out.count("\n") == 1


def test_a_date_is_the_first_instant_of_that_business_day() -> None:
    usecase = load_usecase("fraud").model_copy(update={"timezone": "Europe/Paris", "day_starts_at": "06:00"})
    moment = instant("2026-03-01", usecase)
    assert moment is not None
    assert moment.isoformat() == "2026-03-01T05:00:00+00:00"


def test_a_time_without_zone_is_local_time_of_the_use_case() -> None:
    usecase = load_usecase("fraud").model_copy(update={"timezone": "Europe/Paris"})
    moment = instant("2026-03-01T12:00", usecase)
    assert moment is not None
    assert moment.utcoffset() is not None
    assert moment.timestamp() == pytest.approx(1772362800)


def test_what_is_no_time_is_refused_with_an_example() -> None:
    with pytest.raises(UsageRefused, match="2026-03-01"):
        instant("yesterday", load_usecase("fraud"))


def test_tables_align_numbers_to_the_right() -> None:
    text = table([("recall", 0.5), ("cost", 12345.0), ("none", None)], headers=("name", "value"))
    assert text.splitlines() == [
        "name     value",
        "------  ------",
        "recall     0.5",
        "cost    12,345",
        "none         -",
    ]
