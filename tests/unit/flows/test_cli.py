from __future__ import annotations

import argparse
import fcntl
import json
import os
import pty
import re
import shlex
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from bentos.usecase.loading import load_usecase
from flows.cli import _parser, main
from flows.commands.catalogue import COMMANDS, GROUPS, examples_of
from flows.commands.common import CommandResult, UsageRefused, parse_instant, print_reply
from flows.commands.data.log import PRUNABLE
from flows.commands.parser import sub_parser
from monitoring.core.text_table import table
from monitoring.store.predictions.retention import TABLES


def run(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", *words], capture_output=True, text=True, cwd=cwd, check=False
    )


HEAVY = ("asyncio", "bentoml", "jinja2", "mlflow", "msgspec", "numpy", "pandas", "prefect", "pydantic", "rich", "scipy",
         "sklearn", "sqlalchemy", "xgboost")  # fmt: skip


def test_no_help_imports_anything_heavy() -> None:
    code = f"""
import contextlib, io, sys
from flows.cli import main
from flows.commands.catalogue import COMMANDS
for words in [["--help"], *([name, "--help"] for name in COMMANDS)]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        main(words)
    print(*words, sorted(set({HEAVY!r}) & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 1 + len(COMMANDS)
    assert [line for line in lines if not line.endswith("--help []")] == []


def test_help_shows_every_command_under_the_heading_of_its_group(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    text = capsys.readouterr().out
    headings = [text.index(f"\n{title}\n") for title in GROUPS]
    assert headings == sorted(headings)
    for start, end, commands in zip(headings, [*headings[1:], len(text)], GROUPS.values(), strict=True):
        for name, command in commands.items():
            assert f"\n  {name} " in text[start:end]
            assert command.line.split()[0] in text[start:end]
    assert [title.split(":")[0] for title in GROUPS] == ["start", "build", "watch", "decide", "data", "operate"]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_help_of_a_command_ends_with_examples_that_parse(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert COMMANDS[name].line.lower()[:10] in text.lower()
    examples = text.partition("examples:\n")[2].splitlines()
    assert len(examples) >= 2
    for example in examples:
        words = shlex.split(example, comments=True)
        assert words[:2] == ["incumbent", name]
        assert _parser(words[1:]).parse(words[1:]).command == name


def actions() -> list[tuple[str, str]]:
    """Commands with their actions, as the parsers have them."""
    pairs = []
    for name in COMMANDS:
        command = sub_parser(_parser([name]), name)
        for action in command._actions:
            if isinstance(action, argparse._SubParsersAction):
                pairs += [(name, choice) for choice in action.choices]
    return pairs


def test_every_action_of_a_command_has_an_example() -> None:
    assert len(actions()) > 30
    assert [pair for pair in actions() if not examples_of(" ".join(pair))] == []


def test_an_action_shows_its_own_examples_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["audit", "replay", "--help"])
    assert capsys.readouterr().out.endswith("examples:\n  incumbent audit replay 34\n")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("trian", "incumbent: trian: no such command; did you mean train? (see incumbent --help)"),
        ("Promote", "incumbent: Promote: no such command; did you mean promote? (see incumbent --help)"),
        ("xyz", "incumbent: xyz: no such command (see incumbent --help)"),
        ("audit sho", "incumbent audit: sho: no such action; did you mean show? (see incumbent audit --help)"),
        ("keys xx", "incumbent keys: xx: no such action; there are add, list, revoke (see incumbent keys --help)"),
        ("train --unitl 2026-03-01",
         "incumbent train: --unitl: no such option; did you mean --until? (see incumbent train --help)"),
        ("keys add --onwer=me", "incumbent keys add: --onwer: no such option; did you mean --owner? "
         "(see incumbent keys add --help)"),
        # What is missing is the word that was misspelt.
        ("appoint 3 --role challenger --raeson x",
         "incumbent appoint: --raeson: no such option; did you mean --reason? (see incumbent appoint --help)"),
        ("train --nonsense", "incumbent train: --nonsense: no such option (see incumbent train --help)"),
        ("train more", "incumbent train: more: more than this command takes (see incumbent train --help)"),
        ("train --source parqet", "incumbent train: argument --source: 'parqet' is none of simulator, csv, parquet, "
         "sql, log; did you mean parquet? (see incumbent train --help)"),
        ("--json status", "incumbent: --json: no such option; options stand behind the command, as in: incumbent "
         "status --json (see incumbent --help)"),
    ],
)  # fmt: skip
def test_a_misspelt_word_is_one_sentence_with_the_nearest(
    line: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(line.split())
    assert end.value.code == 2
    assert capsys.readouterr() == ("", sentence + "\n")


def test_beginnings_of_options_and_values_that_look_like_options_are_taken() -> None:
    assert _parser(["promote"]).parse(["promote", "--prev", "--reason", "--not an option"]).preview
    assert _parser(["plan"]).parse(["plan", "--effect", "-0.02"]).effect == -0.02
    assert _parser(["plan"]).parse(["plan", "--effect=0.02"]).effect == 0.02


def test_tables_of_the_log_are_those_that_can_be_pruned() -> None:
    assert tuple(TABLES) == PRUNABLE


def completions(line: str, folder: Path) -> list[str]:
    """What bash would offer after a line, by the script that ``incumbent completion bash`` prints."""
    script = (
        'eval "$(incumbent completion bash)"\n'
        'COMP_LINE="$1"; COMP_POINT=${#1}; COMP_TYPE=9; COMP_WORDS=($1); COMP_CWORD=$((${#COMP_WORDS[@]} - 1))\n'
        '_python_argcomplete incumbent; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "--norc", "-c", script, "bash", line], capture_output=True, text=True, check=True, cwd=folder,
        env={**os.environ, "PATH": path},
    )  # fmt: skip
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("incumbent pro", ["promote"]),
        ("incumbent audit re", ["replay"]),
        ("incumbent train --unt", ["--until"]),
        ("incumbent train --source pa", ["parquet"]),
    ],
)
def test_bash_completes_commands_actions_options_and_choices(line: str, words: list[str], tmp_path: Path) -> None:
    assert completions(line, tmp_path) == words


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_lines(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "_ARGCOMPLETE" in script
    assert {"bash": "complete -o", "zsh": "compdef", "fish": "complete --command incumbent"}[shell] in script


def test_wrong_usage_ends_with_code_2() -> None:
    done = run("train", "--nonsense")
    assert done.returncode == 2
    assert "--nonsense: no such option" in done.stderr


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
    print_reply(CommandResult({"a": 1, "b": None}), as_json=True)
    out = capsys.readouterr().out
    assert json.loads(out) == {"a": 1, "b": None}
    assert out.count("\n") == 1


def test_a_date_is_the_first_instant_of_that_business_day() -> None:
    usecase = load_usecase("fraud").model_copy(update={"timezone": "Europe/Paris", "day_starts_at": "06:00"})
    moment = parse_instant("2026-03-01", usecase)
    assert moment is not None
    assert moment.isoformat() == "2026-03-01T05:00:00+00:00"


def test_a_time_without_zone_is_local_time_of_the_use_case() -> None:
    usecase = load_usecase("fraud").model_copy(update={"timezone": "Europe/Paris"})
    moment = parse_instant("2026-03-01T12:00", usecase)
    assert moment is not None
    assert moment.utcoffset() is not None
    assert moment.timestamp() == pytest.approx(1772362800)


def test_what_is_no_time_is_refused_with_an_example() -> None:
    with pytest.raises(UsageRefused, match="2026-03-01"):
        parse_instant("yesterday", load_usecase("fraud"))


def test_tables_align_numbers_to_the_right() -> None:
    text = table([("recall", 0.5), ("cost", 12345.0), ("none", None)], headers=("name", "value"))
    assert text.splitlines() == [
        "name     value",
        "------  ------",
        "recall     0.5",
        "cost    12,345",
        "none         -",
    ]


def test_a_piped_table_is_plain_and_a_row_is_one_whole_line() -> None:
    text = table([("x" * 300, "[bold]a\nb"), ("한국어", 1)], headers=("name", "value"))
    lines = text.splitlines()
    assert lines[1] == "-" * 300 + "  " + "-" * 9
    assert lines[2] == "x" * 300 + "  [bold]a b"
    assert lines[3].startswith("한국어" + " " * 296)
    assert "\x1b" not in text


def test_at_a_terminal_a_table_is_folded_to_its_width_and_its_heading_is_bold(tmp_path: Path) -> None:
    code = "from monitoring.core.text_table import table; print(table([('word ' * 40, 1)], ('name', 'value')))"
    reader, writer = pty.openpty()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS", "LINES")}
    subprocess.run(
        [sys.executable, "-c", code], stdout=writer, stdin=writer, check=True, env={**environment, "TERM": "xterm"}
    )
    os.close(writer)
    with os.fdopen(reader, "rb", buffering=0) as out:
        text = out.read(65536).decode()
    lines = re.sub(r"\x1b\[[0-9;]*m", "", text).split("\r\n")
    assert "\x1b[1m" in text
    assert max(map(len, lines)) <= 60
    assert sum(line.count("word") for line in lines) == 40


def test_a_stack_for_other_machines_without_keys_is_refused_before_anything_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("INCUMBENT_HOME", str(tmp_path))
    assert main(["up", "--host", "0.0.0.0", "--detach"]) != 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("incumbent up: the service would listen on 0.0.0.0, so requests need API keys: ")
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []
