"""Real child processes: ready when healthy, gone when we are."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows.errors import PortTaken, StackError, StackNotReady
from flows.stack import log_files
from flows.stack.liveness import LivenessLimit
from flows.stack.local_stack import Ports, Stack, running, stop_left_running
from flows.stack.parts import NEVER_GIVEN_UP, Part, Restarts, parts_of
from flows.stack.retry import retry_given_up
from flows.stack.state_file import read_state
from flows.workspace.installation import open_home
from flows.workspace.processes import Child, Command, _end_with_parent, free_port, last_lines, stop_all


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
        from flows.workspace.processes import Child, Command, end_by_exception, stop_all
        # A job in the background of a script is born deaf to it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        argv = [sys.executable, "-c", "import time; time.sleep(60)"]
        with end_by_exception():
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
    process.wait(timeout=600)
    assert gone(pid)


def test_a_preferred_port_that_is_taken_is_replaced_by_a_free_one() -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(port) != port


def tended(stack: Stack, came_true: Callable[[], bool]) -> None:
    """Tend the stack until something is so."""
    deadline = time.monotonic() + 600
    while not came_true():
        assert time.monotonic() < deadline
        stack.tend()
        time.sleep(0.02)


def sleeper(name: str, code: str = "import time; time.sleep(60)", **policy: Any) -> Part:
    return Part(name, [sys.executable, "-c", textwrap.dedent(code)], **policy)


QUICK = Restarts(first_pause=0.05, longest_pause=0.1, limit=3)


def test_a_part_that_ends_by_itself_is_started_again_and_the_file_says_so(tmp_path: Path) -> None:
    home = open_home(home=tmp_path)
    said: list[str] = []
    with running(home, Ports.find()) as stack:
        stack.say = said.append
        keeper = stack.add(sleeper("part", restarts=QUICK))
        stack.wait_ready()
        assert keeper.child is not None
        first = keeper.child.pid
        os.kill(first, signal.SIGKILL)
        tended(stack, lambda: keeper.ready and keeper.alive and bool(said))
        state = read_state(home.addresses)
    assert state is not None
    assert state.parts["part"].state == "running"
    assert state.parts["part"].restarts == 1
    assert state.parts["part"].pid != first
    assert "was ended by SIGKILL" in str(state.parts["part"].ended)
    assert said[0].startswith("part was ended by SIGKILL; it is started again in 0 s")
    assert read_state(home.addresses) is None  # stopped in order


def test_a_part_that_ends_too_often_is_given_up_and_the_others_stay(tmp_path: Path) -> None:
    home = open_home(home=tmp_path)
    said: list[str] = []
    with running(home, Ports.find()) as stack:
        stack.say = said.append
        broken = stack.add(sleeper("broken", "raise SystemExit('no such port')", restarts=QUICK))
        service = stack.add(sleeper("service"))
        tended(stack, lambda: broken.state == "given_up")
        state = read_state(home.addresses)
        with pytest.raises(
            StackError, match=r"broken ended with code 1 .* 4 times in 10 minutes; look at .*broken.log"
        ):
            stack.check()
        assert service.alive
    assert state is not None
    assert state.parts["broken"].state == "given_up"
    assert state.parts["broken"].restarts == 3
    assert state.parts["service"].state == "running"
    assert "given up" in said[-1]
    assert "no such port" in said[-1]


def answering(name: str, code: str = "", **policy: Any) -> Part:
    """A part that answers its health address, on a port of its own; ``code`` runs beside the server."""
    port = free_port()
    source = f"""
        import http.server, os, subprocess, sys, threading, time

        class Answer(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.end_headers()
            def log_message(self, *words):
                pass

        server = http.server.HTTPServer(("127.0.0.1", {port}), Answer)
        threading.Thread(target=server.serve_forever, daemon=True).start()
    """
    source = textwrap.dedent(source) + textwrap.dedent(code) + "time.sleep(600)\n"
    return Part(name, [sys.executable, "-c", source], port, f"http://127.0.0.1:{port}/", **policy)


IMPATIENT = LivenessLimit(missed=3, period=0.1, timeout=0.3)
LEAVES_AN_ORPHAN = """
    code = "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)"
    print(subprocess.Popen([sys.executable, "-c", code], start_new_session=True).pid, flush=True)
"""


@pytest.mark.parametrize("spare_busy", [False, True])
def test_a_part_that_hangs_is_killed_with_all_that_it_started_and_started_again(
    tmp_path: Path, spare_busy: bool
) -> None:
    home, told = open_home(home=tmp_path), list[str]()
    limit = replace(IMPATIENT, spare_busy=spare_busy)
    with running(home, Ports.find()) as stack:
        stack.say = told.append
        keeper = stack.add(answering("part", LEAVES_AN_ORPHAN, restarts=QUICK, liveness=limit))
        stack.wait_ready()
        assert keeper.child is not None
        tended(stack, lambda: last_lines(home.logs / "part.log", 1) != "")
        first, orphan = keeper.child.pid, int(last_lines(home.logs / "part.log", 1))
        os.kill(first, signal.SIGSTOP)
        tended(stack, lambda: keeper.ready and keeper.alive and bool(told))
        tended(stack, lambda: last_lines(home.logs / "part.log", 1) not in {"", str(orphan)})
        state = read_state(home.addresses)
    os.kill(int(last_lines(home.logs / "part.log", 1)), signal.SIGKILL)  # the second orphan; nothing hung at the end
    assert state is not None
    assert state.parts["part"].restarts == 1
    assert state.parts["part"].pid != first
    assert re.match(r"answered nothing for \d+ s and was killed at ", str(state.parts["part"].ended))
    assert told[0].startswith("part answered nothing for")
    assert gone(first)
    assert gone(orphan)


def test_a_service_that_is_merely_busy_is_left_alone_and_said_to_be(tmp_path: Path) -> None:
    home, told = open_home(home=tmp_path), list[str]()
    busy = """
        while not os.path.exists("busy"):
            time.sleep(0.01)
        server.shutdown()
        while True:
            pass
    """
    limit = replace(IMPATIENT, spare_busy=True)
    with running(home, Ports.find()) as stack:
        stack.say = told.append
        part = answering("service", f"os.chdir({str(tmp_path)!r})\n" + textwrap.dedent(busy), liveness=limit)
        keeper = stack.add(part)
        stack.wait_ready()
        assert keeper.child is not None
        first = keeper.child.pid
        (tmp_path / "busy").touch()
        tended(stack, lambda: bool(told))
        until = time.monotonic() + 10 * (limit.period + limit.timeout)
        tended(stack, lambda: time.monotonic() > until)
        assert keeper.child.pid == first
        assert keeper.state == "running"
    (sentence,) = told
    assert re.match(r"service has answered nothing for \d+ s, and works: it is left alone; look at ", sentence)


def test_only_scoring_is_spared_while_it_is_busy(tmp_path: Path) -> None:
    spared = {p.name for p in parts_of(open_home(home=tmp_path), Ports.find()) if p.liveness.spare_busy}
    assert spared == {"service"}


def test_a_second_up_starts_again_what_was_given_up(tmp_path: Path) -> None:
    home, flag = open_home(home=tmp_path), tmp_path / "mended"
    code = f"import os, time; os.path.exists({str(flag)!r}) or exit('no such port'); time.sleep(60)"
    with running(home, Ports.find()) as stack:
        stack.say = lambda _: None
        broken, other = stack.add(sleeper("broken", code, restarts=QUICK)), stack.add(sleeper("other"))
        tended(stack, lambda: broken.state == "given_up")
        assert other.child is not None
        pid = other.child.pid
        with ThreadPoolExecutor(1) as pool:
            again = pool.submit(retry_given_up, home, 1.5)
            tended(stack, again.done)
            with pytest.raises(StackNotReady, match=r"broken was started again and ended with code 1 .*broken\.log"):
                again.result()
            tended(stack, lambda: broken.state == "given_up")
            flag.touch()
            again = pool.submit(retry_given_up, home, 1.5)
            tended(stack, again.done)
            assert again.result() == ["broken"]
        assert broken.alive
        assert other.child.pid == pid
        assert retry_given_up(home) == []
    assert retry_given_up(home) == []


def test_a_service_is_never_given_up() -> None:
    pauses = [NEVER_GIVEN_UP.pause(ends) for ends in (1, 2, 3, 6, 500)]
    assert pauses == [1.0, 2.0, 4.0, 30.0, 30.0]
    assert [Restarts().pause(ends) for ends in (1, 5, 6)] == [1.0, 16.0, None]


def test_a_job_that_fails_is_tried_again_and_holds_up_nobody(tmp_path: Path) -> None:
    home = open_home(home=tmp_path)
    flag = tmp_path / "there"
    job = sleeper(
        "job", f"raise SystemExit(not __import__('os').path.exists({str(flag)!r}))", once=True, restarts=QUICK
    )
    with running(home, Ports.find()) as stack:
        stack.say = lambda _: None
        first, after = stack.add(job), stack.add(sleeper("after", after="job"))
        stack.wait_ready(required=())
        assert after.alive
        flag.touch()
        tended(stack, lambda: first.state == "done")


def test_a_needed_part_that_ends_while_all_start_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    home = open_home(home=tmp_path)
    with running(home, Ports.find()) as stack:
        stack.say = lambda _: None
        stack.add(sleeper("service", "raise SystemExit('boom')", health="http://127.0.0.1:9/"))
        with pytest.raises(StackError, match=r"service ended with code 1 .*service\.log.*boom"):
            stack.wait_ready(required=["service"])


def test_a_side_part_that_is_slow_to_start_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.stack.local_stack.PATIENCE", 0.5)
    said: list[str] = []
    with running(open_home(home=tmp_path), Ports.find()) as stack:
        stack.say = said.append
        service, slow = stack.add(sleeper("service")), stack.add(sleeper("job", once=True))
        stack.wait_ready(required=["service"])
        assert service.alive
        assert slow.alive
        assert said[0].startswith("job is not ready after 0 s; it goes on starting")
        with pytest.raises(StackNotReady, match="job is not ready"):
            stack.wait_ready()


def test_a_second_stack_names_the_first_and_ends(tmp_path: Path) -> None:
    home = open_home(home=tmp_path)
    refusal = pytest.raises(PortTaken, match=rf"already up: a stack \(process {os.getpid()}, since .*incumbent down")
    with running(home, Ports.find()), refusal, running(home, Ports.find()):
        raise AssertionError("two stacks on one home")
    with running(home, Ports.find()):  # what ended in order leaves nothing behind
        pass


def test_parts_of_a_killed_supervisor_are_adopted_with_their_ports_and_stopped_in_the_end(tmp_path: Path) -> None:
    home = open_home(home=tmp_path)
    starter = f"""
        import os, signal, sys
        from flows.workspace.installation import open_home
        from flows.stack.parts import Part
        from flows.stack.local_stack import Ports, running
        with running(open_home(home={str(tmp_path)!r}), Ports.find(), outlive=True) as stack:
            stack.add(Part("scribe", [sys.executable, "-c", "import time; time.sleep(60)"]))
            stack.wait_ready()
            stack.publish()
            os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(starter)], check=False)
    assert done.returncode == -signal.SIGKILL
    before = read_state(home.addresses)
    assert before is not None
    with running(home, Ports.find()) as stack:
        assert stack.urls == before.urls
        assert stack.keepers["scribe"].alive
        assert [child.pid for child in stack.children] == [before.parts["scribe"].pid]
    assert gone(before.parts["scribe"].pid or 0)
    assert home.live_addresses() == {}


def test_a_stack_that_was_left_up_is_tended_by_a_supervisor_until_it_is_stopped(tmp_path: Path) -> None:
    home = open_home(home=tmp_path)
    with running(home, Ports.find(), outlive=True) as stack:
        stack.keep("reports")
        stack.wait_ready()
        children = [*stack.children, stack.leave()]
    assert home.live_addresses()["service"] == stack.urls["service"]
    state = read_state(home.addresses)
    assert state is not None
    assert state.supervisor.alive
    assert state.supervisor.pid != os.getpid()
    first = state.parts["reports"].pid
    assert first is not None
    with pytest.raises(PortTaken, match=f"process {state.supervisor.pid}"), running(home, Ports.find()):
        raise AssertionError("two stacks on one home")
    os.kill(first, signal.SIGKILL)
    deadline = time.monotonic() + 600
    while (state := read_state(home.addresses)) is None or state.parts["reports"].restarts == 0:
        assert time.monotonic() < deadline, (home.logs / "supervisor.log").read_text()
        time.sleep(0.1)
    again = state.parts["reports"].pid
    assert stop_left_running(home) == ["reports"]
    assert gone(again or 0)
    assert gone(state.supervisor.pid)
    stop_all(children)
    assert home.live_addresses() == {}
    assert not home.addresses.exists()


@pytest.mark.parametrize("collapsing", [True, False])
def test_a_long_log_gives_its_beginning_away_and_loses_no_line_of_its_living_writer(
    tmp_path: Path, collapsing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not collapsing:
        monkeypatch.setattr(log_files, "_collapse", lambda *_: False)
    log = tmp_path / "part.log"
    with log.open("ab", buffering=0) as out:
        for number in range(400_000):
            out.write(b"line %08d\n" % number)
            if number % 20_000 == 0:
                log_files.rotate(tmp_path, max_bytes=2 << 20, count=9)
    files = [tmp_path / f"part.log.{n}" for n in range(9, 0, -1)]
    text = b"".join(file.read_bytes() for file in [*files, log] if file.exists())
    assert text.splitlines() == [b"line %08d" % number for number in range(400_000)]
    assert log.stat().st_size < 4 << 20
    assert (tmp_path / "part.log.1").exists()


def test_logs_beyond_the_kept_ones_are_removed(tmp_path: Path) -> None:
    log = tmp_path / "part.log"
    for _ in range(5):
        with log.open("ab") as out:
            out.write(b"x" * (3 << 20))
        log_files.rotate(tmp_path, max_bytes=2 << 20, count=2)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["part.log", "part.log.1", "part.log.2"]


def test_a_child_whose_parent_died_before_it_could_ask_the_kernel_ends() -> None:
    ask = _end_with_parent()
    assert ask is not None
    pid = os.fork()
    if pid == 0:  # a child of ours, and no longer of the process that made ``ask``
        inner = os.fork()
        if inner == 0:
            ask()
            os._exit(7)
        os._exit(os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1]))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
