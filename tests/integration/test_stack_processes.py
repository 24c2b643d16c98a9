"""Real child processes: ready when healthy, gone when we are."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from flows.errors import StackError, StackNotReady
from flows.home import open_home
from flows.processes import Child, Command, free_port, last_lines, stop_all
from flows.stack import Ports, running, stop_left_running


def command(tmp_path: Path, code: str, **options: object) -> Command:
    argv = [sys.executable, "-c", textwrap.dedent(code)]
    return Command("part", argv, dict(os.environ), tmp_path / "logs" / "part.log", **options)  # type: ignore[arg-type]


def gone(pid: int) -> bool:
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_a_child_is_ready_once_its_health_address_answers(tmp_path: Path) -> None:
    port = free_port()
    argv = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(tmp_path)]
    child = Child(Command("web", argv, dict(os.environ), tmp_path / "web.log", f"http://127.0.0.1:{port}"))
    try:
        child.wait_ready()
        assert child.alive
    finally:
        stop_all([child])
    assert not child.alive


def test_a_child_that_ends_early_names_its_log_and_its_last_words(tmp_path: Path) -> None:
    child = Child(command(tmp_path, "raise SystemExit('no such port')", health_url="http://127.0.0.1:9/"))
    with pytest.raises(StackError, match=r"ended with code 1; look at .*part\.log.*no such port"):
        child.wait_ready()
    stop_all([child])


def test_a_child_that_never_becomes_healthy_is_given_up_on(tmp_path: Path) -> None:
    child = Child(command(tmp_path, "import time; time.sleep(60)", health_url="http://127.0.0.1:9/", patience=0.3))
    try:
        with pytest.raises(StackNotReady, match="not ready after"):
            child.wait_ready()
    finally:
        stop_all([child])
    assert not child.alive


def test_a_child_that_ignores_the_request_to_stop_is_killed(tmp_path: Path) -> None:
    code = """
        import signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("deaf", flush=True)
        time.sleep(60)
    """
    child = Child(command(tmp_path, code, grace=0.2))
    while "deaf" not in last_lines(child.command.log, 1):
        time.sleep(0.02)
    stop_all([child])
    assert not child.alive


def test_grandchildren_are_stopped_too(tmp_path: Path) -> None:
    code = """
        import subprocess, sys, time
        inner = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        print(inner.pid, flush=True)
        time.sleep(60)
    """
    child = Child(command(tmp_path, code))
    while not (text := last_lines(child.command.log, 1)):
        time.sleep(0.02)
    stop_all([child])
    assert gone(int(text))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_behind_when_the_owner_is_stopped(tmp_path: Path, number: signal.Signals) -> None:
    owner = f"""
        import os, signal, sys, time
        from pathlib import Path
        from flows.processes import Child, Command, ending_by_exception, stop_all
        # A job in the background of a script is born deaf to it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        argv = [sys.executable, "-c", "import time; time.sleep(60)"]
        with ending_by_exception():
            child = Child(Command("inner", argv, dict(os.environ), Path({str(tmp_path)!r}) / "inner.log"))
            try:
                print(child.pid, flush=True)
                time.sleep(60)
            finally:
                stop_all([child])
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(owner)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    process.send_signal(number)
    process.stdout.close()
    process.wait(timeout=20)
    assert gone(pid)


def test_a_preferred_port_that_is_taken_is_replaced_by_a_free_one() -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(port) != port


def test_a_stack_that_was_left_up_is_found_and_stopped_later(tmp_path: Path) -> None:
    home = open_home(home=tmp_path)
    argv = [sys.executable, "-c", "import time; time.sleep(60)"]
    with running(home, Ports.find(), outlive=True) as stack:
        stack.children.append(Child(Command("part", argv, dict(os.environ), home.logs / "part.log", outlive=True)))
        child = stack.children[0]
        stack.leave()
    assert home.known_addresses()["service"] == stack.urls["service"]
    assert child.alive
    assert stop_left_running(home) == ["part"]
    assert gone(child.pid)
    stop_all([child])
    assert home.known_addresses() == {}


def test_a_part_that_ends_by_itself_is_noticed(tmp_path: Path) -> None:
    home = open_home(home=tmp_path)
    with running(home, Ports.find()) as stack:
        stack.children.append(Child(command(tmp_path, "raise SystemExit('boom')")))
        while stack.children[0].alive:
            time.sleep(0.02)
        with pytest.raises(StackError, match=r"part ended with code 1.*boom"):
            stack.check()
