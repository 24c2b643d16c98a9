"""A disk that is really full (a small tmpfs): what is answered, what is counted, and that all goes on afterwards."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bentos.registry.ports import ModelRef
from tests.support.processes.servers import MODELS, House, Server, event

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int = 48) -> Iterator[Path]:
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)], check=False)
    if done.returncode != 0:
        pytest.skip("a file system can be mounted by root alone")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Take all that is left of the disk."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as out, contextlib.suppress(OSError):
        while True:
            out.write(bytes(4096))
    return filler


def eventually(came_true: Callable[[], bool], seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not came_true():
        assert time.monotonic() < deadline
        time.sleep(0.2)


@contextlib.contextmanager
def serving_on_a_small_disk(tmp_path: Path, mode: str) -> Iterator[tuple[Server, Path]]:
    with small_disk(tmp_path / "disk") as disk:
        workspace = House(disk / "home")
        workspace.add(MODELS()["1"])
        workspace.appoint(ModelRef(workspace.model, "1"), MODELS()["1"].contract_digest)
        server = Server(
            workspace, logs=tmp_path, INCUMBENT_LOG_MODE=mode, INCUMBENT_POLL_SECONDS="0.2",
            INCUMBENT_SPOOL_ROTATE_SECONDS="0.5",
        )  # fmt: skip
        try:
            server.wait_for("/readyz", patience=400)
            yield server, disk
        finally:
            server.kill()


def dropped(server: Server) -> float:
    return next(value for name, value in server.metrics().items() if name.startswith("incumbent_log_dropped"))


def test_available_answers_from_a_full_disk_also_after_its_worker_died_and_logs_again_afterwards(
    tmp_path: Path,
) -> None:
    with serving_on_a_small_disk(tmp_path, "available") as (server, disk):
        assert server.score(event("before")).status_code == 200
        filler = fill(disk)
        answers = {}
        for number in range(300):
            answer = server.score(event(f"full-{number}", amount=10.0 + number))
            assert answer.status_code == 200
            answers[number] = answer.json()
            time.sleep(0.01)
        assert dropped(server) > 0
        for number, first in answers.items():  # the first answer stands, logged or not
            again = server.score(event(f"full-{number}", amount=10.0 + number)).json()
            assert {**again, "replayed": None} == {**first, "replayed": None}
        spool = server.workspace.settings.spool("fraud")
        assert [file.name for file in spool.glob("*.seg") if file.stat().st_size == 0] == []
        assert len(list(spool.glob("*.seg"))) < 10
        assert server.log.read_text().count("the spool cannot be written") <= 2
        (worker,) = server.workers()
        os.kill(worker, signal.SIGKILL)
        eventually(lambda: server.workers() not in ([], [worker]))
        server.wait_for("/readyz", patience=400)
        assert server.score(event("still-full")).status_code == 200
        before = dropped(server)
        assert before > 0
        filler.unlink()
        eventually(lambda: "the spool is written again" in server.log.read_text())
        assert server.score(event("after")).status_code == 200
        assert dropped(server) == before
        server.workspace.ship()
        with server.workspace.store() as store, store.database.read() as connection:
            ids = {row[0] for row in connection.exec_driver_sql("select event_id from predictions")}
        assert {"before", "after"} <= ids


def test_strict_refuses_on_a_full_disk_and_answers_again_afterwards(tmp_path: Path) -> None:
    with serving_on_a_small_disk(tmp_path, "strict") as (server, disk):
        assert server.score(event("before")).status_code == 200
        filler = fill(disk)
        eventually(lambda: server.score(event(f"full-{time.time_ns()}")).status_code == 503, 60)
        assert [server.score(event(f"none-{n}")).status_code for n in range(20)] == [503] * 20
        assert server.client.get("/livez").status_code == 200
        filler.unlink()
        eventually(lambda: server.score(event("after")).status_code == 200, 60)
