"""Locks of a home with real processes: who holds one is named, and the kernel lets go for the dead."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import IO

import pytest

from bentos.errors import HomeTaken
from bentos.home_lock import HomeLock, LockHolder, hold_service
from bentos.serving.metrics_folder import make_folder, remove_leftovers
from bentos.serving.other_homes import home_description, name_home, require_only_home
from bentos.settings import Settings, read_settings
from flows.errors import FlowRefused
from flows.stack.occupants import require_quiet, services_in
from flows.workspace.installation import open_home
from monitoring.store import open_store

HOLD = """
    import os, sys, time
    from pathlib import Path
    from bentos.home_lock import HomeLock, LockHolder
    HomeLock(Path(sys.argv[1])).take(LockHolder.this_process("a service", "http://127.0.0.1:3000"), inherit=True)
    if sys.argv[2] == "parent" and os.fork() == 0:
        os.write(1, b"%d\\n" % os.getpid())
        time.sleep(120)
    os.write(1, b"held\\n")
    time.sleep(120)
"""


class Other:
    """Another process that holds the lock."""

    def __init__(self, path: Path, kind: str = "alone") -> None:
        argv = [sys.executable, "-c", textwrap.dedent(HOLD), str(path), kind]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        self.child = 0
        while (line := self._out.readline().strip()) != "held":
            assert line
            self.child = int(line)
        if kind == "parent" and not self.child:
            self.child = int(self._out.readline())

    @property
    def _out(self) -> IO[str]:
        assert self.process.stdout is not None
        return self.process.stdout

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._out.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "service.lock"


@pytest.fixture
def other(path: Path) -> Iterator[Other]:
    found = Other(path)
    yield found
    if found.process.poll() is None:
        found.kill()


def test_who_holds_a_lock_is_named_with_process_time_and_address(path: Path, other: Other) -> None:
    named = rf"a service \(process {other.process.pid}, since 20.* UTC, at http://127.0.0.1:3000\) is in "
    with pytest.raises(HomeTaken, match=named + str(path.parent.parent)):
        HomeLock(path).take(LockHolder.this_process("another"))
    assert (holder := HomeLock(path).holder()) is not None
    assert holder.pid == other.process.pid


def test_a_killed_holder_leaves_nothing_that_blocks(path: Path, other: Other) -> None:
    other.kill()
    os.close(HomeLock(path).take(LockHolder.this_process("another")))
    assert HomeLock(path).holder() is None


def test_the_child_of_a_killed_holder_still_keeps_others_out_and_is_waited_for(path: Path) -> None:
    other = Other(path, "parent")
    other.kill()
    with pytest.raises(HomeTaken, match=f"process {other.process.pid}"):
        HomeLock(path, patience=0.3).take(LockHolder.this_process("another"))
    ender = subprocess.Popen(["sh", "-c", f"sleep 0.5; kill -9 {other.child}"])
    os.close(HomeLock(path, patience=60).take(LockHolder.this_process("another")))
    assert ender.wait() == 0


def test_those_who_share_keep_out_who_wants_it_alone(path: Path) -> None:
    held = [HomeLock(path).take(LockHolder.this_process(f"replica {n}"), shared=True) for n in (1, 2)]
    with pytest.raises(HomeTaken, match="replica 2"):
        HomeLock(path).take(LockHolder.this_process("another"))
    for descriptor in held:
        os.close(descriptor)


def test_a_service_is_alone_in_its_home_environment_and_use_case(tmp_path: Path) -> None:
    here = read_settings(home=tmp_path, env="dev")
    hold_service(here, "fraud", "http://127.0.0.1:3000")
    hold_service(here, "churn", "")
    hold_service(read_settings(home=tmp_path, env="staging"), "fraud", "")
    hold_service(read_settings(home=tmp_path / "other"), "fraud", "")
    with pytest.raises(HomeTaken, match=r"a service of fraud \(dev\) .* windows of their own; stop it first"):
        hold_service(here, "fraud", "http://127.0.0.1:3001")
    with pytest.raises(HomeTaken, match="for each of them"):  # one of the two shares its windows: still wrong
        hold_service(read_settings(home=tmp_path, redis_url="redis://127.0.0.1:1"), "fraud", "")


def test_files_of_metrics_lie_in_a_folder_for_each_start_and_go_with_its_owner(tmp_path: Path) -> None:
    code = f"""
        import signal, os, sys
        from pathlib import Path
        from bentos.serving.metrics_folder import make_folder
        print(make_folder([Path({str(tmp_path)!r})]), flush=True)
        if sys.argv[1] == "killed": os.kill(os.getpid(), signal.SIGKILL)
    """
    argv = [sys.executable, "-c", textwrap.dedent(code)]
    ended = subprocess.run([*argv, "ended"], stdout=subprocess.PIPE, text=True, check=True)
    assert not Path(ended.stdout.strip()).exists()
    killed = subprocess.run([*argv, "killed"], stdout=subprocess.PIPE, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    left = Path(killed.stdout.strip())
    assert left.is_dir()
    mine = make_folder([tmp_path])
    assert not left.exists()
    remove_leftovers(tmp_path)
    assert mine.is_dir()  # its owner lives


def test_a_place_that_is_absent_or_cannot_be_written_is_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    good = tmp_path / "good"
    good.mkdir()
    assert make_folder([tmp_path / "absent", file, good]).parent == good
    with pytest.raises(OSError, match="absent"):
        make_folder([tmp_path / "absent"])


def test_nothing_is_restored_under_a_running_service_or_stack(tmp_path: Path) -> None:
    home = open_home(home=tmp_path)
    require_quiet(home, "a backup is not restored")
    held = HomeLock(home.run / "stack.lock").take(LockHolder.this_process("a stack"))
    with pytest.raises(FlowRefused, match=rf"a stack \(process {os.getpid()}, .*; a backup is not restored under it"):
        require_quiet(home, "a backup is not restored")
    os.close(held)
    other = Other(home.run / "service-dev-fraud.lock")
    with pytest.raises(FlowRefused, match=f"process {other.process.pid}, .* stop it first"):
        require_quiet(home, "a backup is not restored")
    assert [holder.pid for holder in services_in(home)] == [other.process.pid]
    other.kill()
    require_quiet(home, "a backup is not restored")


class TwoHomes:
    """Two homes on one database; a service of the first gives signs of life there."""

    def __init__(self, folder: Path) -> None:
        self.url = f"sqlite:///{folder / 'shared.db'}"
        self.folder = folder

    def settings(self, home: str, **more: object) -> Settings:
        return read_settings(home=self.folder / home, database_url=self.url, **more)

    def beat(self, home: str, **more: object) -> None:
        settings = self.settings(home, **more)
        name_home(settings, "http://127.0.0.1:3000")
        with closing(open_store(settings.log_url)) as store:
            store.serving.heartbeat(
                "fraud", f"{home}-1", settings.model_name("fraud"), "1", "1", {"home": home_description()}
            )


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TwoHomes:
    monkeypatch.setenv("INCUMBENT_SERVING_HOME", "{}")
    return TwoHomes(tmp_path)


def test_a_second_home_on_the_same_database_names_the_first_and_ends(two: TwoHomes) -> None:
    two.beat("a")
    require_only_home(two.settings("a"), "fraud")
    place = re.escape(f"{two.folder / 'a'} on {socket.gethostname()}, at http://127.0.0.1:3000")
    with pytest.raises(HomeTaken, match=rf"a service of fraud \(dev\) in {place} works on the same database"):
        require_only_home(two.settings("b"), "fraud")
    require_only_home(two.settings("b", env="prod"), "fraud")
    require_only_home(two.settings("b"), "churn")


def test_a_copy_of_a_home_is_another_home(two: TwoHomes) -> None:
    two.beat("a")
    shutil.copytree(two.folder / "a", two.folder / "copy")
    with pytest.raises(HomeTaken):
        require_only_home(two.settings("copy"), "fraud")


def test_homes_that_share_their_windows_may_share_a_database_if_all_do(two: TwoHomes) -> None:
    redis = {"redis_url": "redis://127.0.0.1:1/0"}
    two.beat("a", **redis)
    require_only_home(two.settings("b", **redis), "fraud")
    with pytest.raises(HomeTaken, match="INCUMBENT_REDIS_URL"):
        require_only_home(two.settings("b"), "fraud")


def test_a_home_that_stopped_or_a_database_that_is_away_keeps_nobody_out(two: TwoHomes) -> None:
    two.beat("a")
    with closing(open_store(two.url)) as store:
        store.serving.leave("fraud", "a-1")
    require_only_home(two.settings("b"), "fraud")
    require_only_home(read_settings(home=two.folder / "b", database_url="postgresql://u:p@127.0.0.1:1/none"), "fraud")
