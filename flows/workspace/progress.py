"""Progress bars on standard error, so that standard output stays for results."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Protocol, TextIO

STEP_SECONDS = 5.0
"""Where no terminal is attached, a bar becomes one line every so often."""


class Bar(Protocol):
    """What a long step reports to."""

    def __call__(self, done: int, total: int) -> None:
        """Say how much is done; the total may still change."""
        ...

    def say(self, text: str) -> None:
        """Show what is happening now beside the bar."""
        ...

    def tell(self, text: str) -> None:
        """Write a line that stays."""
        ...


_current_bar: ContextVar[Bar | None] = ContextVar("incumbent_progress", default=None)


def report_step(step: str, done: int, total: int) -> None:
    """Tell whatever bar is shown that a step of a long job begins; nobody need be watching."""
    bar = _current_bar.get()
    if bar is not None:
        bar.say(step)
        bar(done, total)


@contextlib.contextmanager
def progress(title: str, total: int | None = None, stream: TextIO | None = None) -> Iterator[Bar]:
    """Show one long step while the block runs.

    Args:
        title: what is being done.
        total: number of pieces, where known from the start.
        stream: standard error by default.
    """
    out = stream if stream is not None else sys.stderr
    make_bar = _terminal_bar if out.isatty() and os.environ.get("TERM") != "dumb" else _plain_bar
    with make_bar(title, total, out) as bar, shown_by(bar):
        yield bar


@contextlib.contextmanager
def shown_by(bar: Bar) -> Iterator[None]:
    """Steps that begin while the block runs are told to this bar."""
    token = _current_bar.set(bar)
    try:
        yield
    finally:
        _current_bar.reset(token)


@contextlib.contextmanager
def _terminal_bar(title: str, total: int | None, out: TextIO) -> Iterator[Bar]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.table import Column

    note = Column(no_wrap=True, overflow="ellipsis", ratio=1)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
               TimeElapsedColumn(), TextColumn("{task.fields[note]}", table_column=note))  # fmt: skip
    with Progress(*columns, console=Console(file=out), expand=True) as rich:
        task = rich.add_task(title, total=total, note="")

        class Shown:
            def __call__(self, done: int, total: int) -> None:
                rich.update(task, completed=done, total=total)

            def say(self, text: str) -> None:
                rich.update(task, note=text)

            def tell(self, text: str) -> None:
                rich.console.print(text, highlight=False)

        yield Shown()
        rich.update(task, note="")
        if total is None:  # a step that never counted is complete when it ends
            rich.update(task, completed=rich.tasks[task].completed or 1, total=rich.tasks[task].total or 1)


@contextlib.contextmanager
def _plain_bar(title: str, total: int | None, out: TextIO) -> Iterator[Bar]:
    lines = _Lines(title, out)
    lines.write("started")
    yield lines
    lines.write(f"done in {time.monotonic() - lines.started:.1f} s")


class _Lines:
    def __init__(self, title: str, out: TextIO) -> None:
        self.title, self.out = title, out
        self.started = self.shown = time.monotonic()
        self.note = ""

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() - self.shown >= STEP_SECONDS:
            self.write(f"{done}/{total} {self.note}".rstrip())

    def say(self, text: str) -> None:
        self.note = text

    def tell(self, text: str) -> None:
        with contextlib.suppress(OSError):  # whoever read along has gone; the work goes on
            self.out.write(f"{text}\n")
            self.out.flush()

    def write(self, text: str) -> None:
        self.shown = time.monotonic()
        self.tell(f"{self.title}: {text}")
