"""A Redis of our own for the tests: Debian's program, a temporary folder, a Unix socket, no file written."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

_PATIENCE = 30.0


def program() -> str:
    """Redis' server; skips the test without one, unless the system must be complete."""
    found = shutil.which("redis-server")
    if found is not None:
        return found
    message = "Redis is missing: apt-get install redis-server"
    if os.environ.get("INCUMBENT_REQUIRE_SYSTEM") == "1":
        pytest.fail(message)
    pytest.skip(message)


class RedisServer:
    """A server that can be stopped, frozen and started again, empty each time."""

    def __init__(self, folder: Path) -> None:
        self._program = program()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"unix://{folder / 'redis.sock'}"
        self.start()

    def client(self) -> redis.Redis:
        """A connection for a test that looks into the server."""
        return redis.Redis.from_url(self.url)

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = [
            "--port",
            "0",
            "--unixsocket",
            str(self._folder / "redis.sock"),
            "--save",
            "",
            "--dir",
            str(self._folder),
        ]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen([self._program, *options], stdout=log, stderr=log)
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                with self.client() as client:
                    client.ping()
                return
            except redis.RedisError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise AssertionError((self._folder / "log").read_text()[-1000:]) from None
                time.sleep(0.02)

    def kill(self) -> None:
        """End it at once; everything it held is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """It keeps its connections and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


@contextmanager
def redis_server() -> Iterator[RedisServer]:
    """Start a server, and end it."""
    folder = Path(tempfile.mkdtemp(prefix="redis-", dir="/tmp"))
    server = None
    try:
        server = RedisServer(folder)
        yield server
    finally:
        if server is not None:
            server.kill()
        shutil.rmtree(folder, ignore_errors=True)
