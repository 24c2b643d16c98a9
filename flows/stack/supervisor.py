"""``python -m flows.stack.supervisor LOCK``: keeps the parts of a detached stack alive until SIGTERM, then stops them.

``incumbent up --detach`` and a demo that is kept start it and hand it their lock, as an open descriptor. It adopts
the living parts that ``run/stack.json`` names. When it is killed itself, the parts go on without it: the next
``incumbent up`` adopts them, ``incumbent down`` stops them, and ``incumbent status`` says that nobody restarts them.
"""

from __future__ import annotations

import sys
import time

from flows.stack.local_stack import Stack
from flows.stack.occupants import ports_of
from flows.stack.state_file import read_state
from flows.workspace.installation import open_home
from flows.workspace.processes import end_by_exception

PERIOD = 0.5
"""Seconds between two looks at the parts."""


def supervise(stack: Stack) -> None:
    """Tend a stack until this process is asked to end."""
    while True:
        stack.tend()
        time.sleep(PERIOD)


def main() -> int:
    """Adopt the stack of this home and tend it."""
    home = open_home()
    state = read_state(home.addresses)
    if state is None or len(sys.argv) != 2:
        print("refused: no stack was handed over; start one with: incumbent up --detach", file=sys.stderr)  # noqa: T201
        return 1
    with end_by_exception(), Stack(home, ports_of(state), outlive=True, lock=int(sys.argv[1])) as stack:
        stack.adopt(state)
        supervise(stack)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
