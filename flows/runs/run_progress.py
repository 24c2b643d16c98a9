"""The progress of a long run as an artifact on its page in the Prefect UI."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, cast

import httpx

if TYPE_CHECKING:
    from uuid import UUID

UPDATE_SECONDS: Final = 2.0
"""Shortest time between two updates; each is a request to the server."""


class RunProgress:
    """A bar on the page of the present Prefect run; it is made when a step is told for the first time.

    Args:
        flow: name of the flow, for the description.
    """

    def __init__(self, flow: str) -> None:
        self._flow = flow
        self._artifact: UUID | None = None
        self._step = ""
        self._sent = 0.0

    def __call__(self, done: int, total: int) -> None:
        """Show how much is done; the server being away stops no work."""
        now = time.monotonic()
        if done < total and now - self._sent < UPDATE_SECONDS and self._artifact is not None:
            return
        self._sent = now
        with suppress(httpx.HTTPError):
            self._publish(100.0 * done / max(1, total), f"{self._flow}: {self._step} ({done} of {total})")

    def say(self, text: str) -> None:
        """Remember what is happening now; the next update shows it."""
        self._step = text

    def tell(self, text: str) -> None:
        """Show a line that stays: log lines of a run go to its log, not here."""
        self.say(text)

    def _publish(self, percent: float, text: str) -> None:
        from prefect.artifacts import create_progress_artifact, update_progress_artifact

        if self._artifact is None:
            self._artifact = cast("UUID", create_progress_artifact(percent, description=text))
        else:
            update_progress_artifact(self._artifact, percent, description=text)
