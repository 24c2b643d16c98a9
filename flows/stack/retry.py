"""A second ``incumbent up``: asks whoever supervises the running stack to start again what was given up."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from flows.errors import StackNotReady
from flows.stack.state_file import PartState, StackState, read_state
from flows.workspace.installation import Home

PATIENCE = 600.0
"""Seconds until parts that were asked for must be ready."""
SETTLE_SECONDS = 5.0
"""Seconds that one must live, for those of which nothing but that can be seen."""


def retry_given_up(home: Home, settle_seconds: float = SETTLE_SECONDS) -> list[str]:
    """Have the parts that a living supervisor gave up started again, and wait until they are ready.

    Args:
        home: where the stack is up.
        settle_seconds: seconds that each must live before it counts as ready.

    Returns:
        Their names; none where no stack is up or none of its parts was given up.

    Raises:
        StackNotReady: one ended again, or is not ready in time; the message names its log file.
    """
    state = read_state(home.addresses)
    if state is None or not state.supervisor.alive:
        return []
    parts = {name: part for name, part in state.parts.items() if part.state == "given_up"}
    if parts:
        _request_file(home).touch()
        _wait(home, parts, timedelta(seconds=settle_seconds))
    return list(parts)


def take_retry(home: Home) -> bool:
    """Whether somebody asked since the last call."""
    try:
        _request_file(home).unlink()
    except OSError:
        return False
    return True


def _wait(home: Home, parts: dict[str, PartState], settle_time: timedelta) -> None:
    pending, deadline = dict(parts), time.monotonic() + PATIENCE
    while pending:
        state = read_state(home.addresses)
        if state is None or not state.supervisor.alive:
            raise StackNotReady(f"the stack was stopped before {', '.join(pending)} was started again")
        pending = {name: part for name, part in pending.items() if not _is_back(state, name, part, settle_time)}
        if pending and time.monotonic() > deadline:
            logs = ", ".join(part.log for part in pending.values())
            raise StackNotReady(f"{', '.join(pending)} is not ready yet; look at {logs}")
        time.sleep(0.1 if pending else 0.0)


def _is_back(state: StackState, name: str, old_part: PartState, settle_time: timedelta) -> bool:
    part = state.parts.get(name)
    if part is None:  # its use case was retired meanwhile
        return True
    if part.restarts > old_part.restarts and part.pid is None and part.state != "done":
        raise StackNotReady(f"{name} was started again and {part.ended}; look at {part.log}")
    lives = part.state == "running" and part.since is not None and datetime.now(UTC) > part.since + settle_time
    return part.restarts > old_part.restarts and (lives or part.state == "done")


def _request_file(home: Home) -> Path:
    return home.run / "retry"
