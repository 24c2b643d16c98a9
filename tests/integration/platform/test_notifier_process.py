"""The notifier as a process: a receiver that is down and comes back, and a kill between sending and writing it down."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from flows.workspace.installation import PROJECT
from monitoring.store import Store, open_store
from tests.support.hooks import Hook, Receiver, webhook
from tests.support.processes.mail import mail_server
from tests.support.releases import MODEL, NOW

PATIENCE = 600.0


class Running:
    """A home with a store and a champion by the chain, and notifiers on it."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.home.mkdir()
        self.store: Store = open_store(f"sqlite:///{self.home / 'dev-log.db'}")
        self.log = folder / "notifier.log"
        self.started = list[subprocess.Popen[bytes]]()

    def environment(self, url: str, **more: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "INCUMBENT_"))}
        return kept | {"INCUMBENT_HOME": str(self.home), "INCUMBENT_NOTIFY_URL": url, **more}

    def notify(self, *words: str, url: str = "") -> tuple[int, str, Any]:
        """One ``incumbent notify --json``: exit code, all that it printed, and the object in it."""
        argv = [sys.executable, "-m", "flows.cli", "notify", *words, "--json"]
        done = subprocess.run(
            argv, cwd=PROJECT, env=self.environment(url), capture_output=True, text=True, check=False
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr, json.loads(done.stdout)

    def follow(self, url: str, **more: str) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-m", "flows.cli", "notify", "--follow", "--every", "0.1"]
        with self.log.open("ab") as log:
            self.started.append(
                subprocess.Popen(
                    argv, cwd=PROJECT, env=self.environment(url, **more), stdout=log, stderr=subprocess.STDOUT
                )
            )
        return self.started[-1]

    def roll_back(self) -> None:
        said = {"model": MODEL, "from_version": "2", "to_version": "1", "reason": "error_rate: 80 of 1000 failed"}
        self.store.decisions.append("fraud", "rollback.champion_set", said, "watch", NOW)

    def wait(self, came_true: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not came_true():
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)

    def ready(self) -> bool:
        return self.store.notices.mark("fraud", "decisions") is not None

    def time_passes(self) -> None:
        """Every claim and pause runs out."""
        with self.store.database.write() as connection:
            connection.exec_driver_sql("UPDATE notices SET next_at = 0 WHERE state = 'waiting'")

    def close(self) -> None:
        for one in self.started:
            one.kill()
            one.wait()
        self.store.close()


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Running]:
    made = Running(tmp_path)
    yield made
    made.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Late(Hook):
    """A webhook on a port that was chosen before it listened."""

    def __init__(self, port: int) -> None:
        HTTPServer.__init__(self, ("127.0.0.1", port), Receiver)
        self.answers, self.bodies = list[int](), list[Any]()


def test_a_receiver_that_was_down_is_told_when_it_is_back_and_only_once(here: Running) -> None:
    port = free_port()
    process = here.follow(f"json://127.0.0.1:{port}/token-4711")
    here.wait(here.ready)
    here.roll_back()
    here.wait(here.store.notices.problems)
    ((target, count, _, why),) = here.store.notices.problems()
    assert (target, count, why) == ("default", 1, "json: it did not take it")
    with Late(port) as hook:
        thread = Thread(target=hook.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        here.wait(lambda: hook.bodies)
        here.wait(lambda: not here.store.notices.problems())
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=PATIENCE) == 0
        hook.shutdown()
        thread.join()
    (body,) = hook.bodies
    assert body["title"] == "[fraud · dev] Rolled back to version 1"
    assert "4711" not in here.log.read_text()


def test_a_test_notice_reaches_a_webhook_and_a_mailbox_and_a_refusal_is_said_without_the_address(here: Running) -> None:
    with webhook([204, 403]) as hook, mail_server() as post:
        mail = f"mailto://127.0.0.1:{post.port}?from=home@example.org&to=desk@example.org&mode=insecure&format=text"
        assert here.notify("--test", url=f"{hook.url} {mail}")[::2] == (
            0,
            {"targets": [{"target": "default", "variable": "INCUMBENT_NOTIFY_URL", "problem": ""}], "failed": 0},
        )
        code, printed, refused = here.notify("--test", url=hook.url)
    assert [(body["kind"], body["title"]) for body in hook.bodies] == [("test", "A test notice")] * 2
    (text,) = post.mails
    assert "Subject: =?utf-8?" in text or "A test notice" in text
    assert (code, refused["failed"]) == (1, 1)
    assert "403" in refused["targets"][0]["problem"]
    assert "4711" not in printed
    code, _, nobody = here.notify("--test")
    assert (code, nobody["targets"]) == (1, [])


def test_a_notifier_counts_as_alive_only_while_it_looks(here: Running) -> None:
    assert here.notify("--alive")[::2] == (1, {"alive": False})
    process = here.follow("")
    here.wait(lambda: here.store.heartbeats.seen("fraud").get("notifier"))
    code, _, found = here.notify("--alive")
    assert (code, found["alive"]) == (0, True)
    process.kill()
    process.wait()
    with here.store.database.write() as connection:
        connection.exec_driver_sql("UPDATE heartbeats SET seen_at = seen_at - 61000000")
    code, _, found = here.notify("--alive")
    assert (code, found["alive"]) == (1, False)


class Deadly(BaseHTTPRequestHandler):
    """Takes a notice, and kills whoever sent it before it can write that down."""

    server: Any

    def do_POST(self) -> None:
        self.server.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        if self.server.victim is not None:
            victim, self.server.victim = self.server.victim, None
            victim.send_signal(signal.SIGKILL)
            victim.wait()
            return
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""


def test_a_notifier_that_is_killed_between_sending_and_its_row_tells_again_under_the_same_id(here: Running) -> None:
    with HTTPServer(("127.0.0.1", 0), Deadly) as server:
        server.bodies, server.victim = list[Any](), None  # type: ignore[attr-defined]  # what the handler uses
        bodies: list[Any] = server.bodies  # type: ignore[attr-defined]
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}/token-4711"
            server.victim = here.follow(url)  # type: ignore[attr-defined]
            here.wait(here.ready)
            here.roll_back()
            here.wait(lambda: len(bodies) == 1)
            here.time_passes()
            here.follow(url)
            here.wait(lambda: len(bodies) == 2)
            here.wait(lambda: here.store.notices.claim(NOW.replace(year=2100), 0.0) == [])
        finally:
            server.shutdown()
            thread.join()
    assert bodies[0] == bodies[1]
    assert bodies[0]["outcome"] == "automatic"


def test_a_database_that_is_away_is_told_without_it_and_so_is_its_end(here: Running) -> None:
    with HTTPServer(("127.0.0.1", 0), Deadly) as server:
        server.bodies, server.victim = list[Any](), None  # type: ignore[attr-defined]
        bodies: list[Any] = server.bodies  # type: ignore[attr-defined]
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            here.follow(f"http://127.0.0.1:{server.server_port}/x")
            here.wait(here.ready)
            with closing(sqlite3.connect(here.home / "dev-log.db", isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                state = here.home / "run" / "dev-database-away.json"
                here.wait(state.exists)
                since = json.loads(state.read_text())["since"]
                state.write_text(json.dumps({"since": since.replace(since[:4], "2020", 1)}))
                here.wait(lambda: bodies)
                other.execute("ROLLBACK")
            here.wait(lambda: len(bodies) == 2)
            here.wait(lambda: not state.exists())
        finally:
            server.shutdown()
            thread.join()
    begun, ended = bodies
    assert (begun["kind"], begun["outcome"], begun["title"]) == ("dependency", "begun", "The database is away")
    assert (ended["outcome"], ended["text"].startswith("The database answers again, after ")) == ("ended", True)
