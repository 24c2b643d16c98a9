"""Start the load generator in a process of its own, and read what it recorded."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import msgspec

from flows.drills.load.load_generator import GRACE, LoadRound, RoundFigures
from flows.errors import StackError
from flows.workspace.installation import PROJECT

_START_SECONDS = 120.0


class RunningLoad:
    """A load that goes on in the background; leaving the block ends it."""

    def __init__(self, load: LoadRound) -> None:
        self._load = load
        self._measured: RoundFigures | None = None
        command = [sys.executable, "-m", "flows.drills.load.load_generator"]
        pipes = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipes, stdout=pipes, stderr=pipes, cwd=PROJECT)
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(load))
        self._process.stdin.close()
        self._process.stdin = None

    def stop(self) -> RoundFigures:
        """Ask it to end, unless it ends by itself, and return what it measured.

        Raises:
            StackError: it failed.
        """
        if self._measured is None:
            if not self._load.seconds:
                self._process.send_signal(signal.SIGTERM)
            patience = self._load.seconds + self._load.warm_up + GRACE + _START_SECONDS
            out, err = self._process.communicate(timeout=patience)
            if self._process.returncode != 0 or not out:
                raise StackError(f"the load generator failed: {err.decode(errors='replace')[-300:]}")
            self._measured = msgspec.json.decode(out, type=RoundFigures)
        return self._measured

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()


def run_load(load: LoadRound) -> RoundFigures:
    """Run a load of fixed length to its end; raises :class:`StackError` when it fails."""
    with RunningLoad(load) as running:
        return running.stop()


class RecordedAnswer(NamedTuple):
    """One recorded answer: machine time of its arrival, event id, status, body."""

    at: float
    event_id: str
    status: int
    body: bytes


def read_answers(file: Path) -> Iterator[RecordedAnswer]:
    """The answers in a record."""
    with file.open("rb") as lines:
        for line in lines:
            at, event_id, status, body = line.rstrip(b"\n").split(b" ", 3)
            yield RecordedAnswer(float(at), event_id.decode(), int(status), body)
