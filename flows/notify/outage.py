"""The database itself is away: told without the outbox, which lies in it. The state is one small file of the home."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from flows.errors import NotifyError
from flows.notify.notice import Notice, span_text, with_id
from flows.notify.outbox import targets_of
from flows.notify.senders import send

if TYPE_CHECKING:
    from flows.workspace.workspace import Workspace

_LOG = logging.getLogger("incumbent.notify")
GRACE: Final = timedelta(minutes=2)
_RETRY: Final = timedelta(seconds=30)
_DAY: Final = timedelta(days=1)


class Outage:
    """Tells that the database is away, once a day while it lasts, and that it is back.

    Args:
        home: whose settings and routes.
        notice: what people are told when it begins.
    """

    def __init__(self, workspace: Workspace, notice: Notice) -> None:
        self._workspace = workspace
        self._notice = notice
        self._file = workspace.settings.root / "run" / f"{workspace.settings.env}-database-away.json"

    def note(self, now: datetime) -> None:
        """The database did not answer at machine time ``now``."""
        state = self._read()
        since = datetime.fromisoformat(state.setdefault("since", now.isoformat()))
        told_at = state.get("told_at")
        is_due = now - since >= GRACE if told_at is None else now - datetime.fromisoformat(told_at) >= _DAY
        tried_at = state.get("tried_at")
        if is_due and (tried_at is None or now - datetime.fromisoformat(tried_at) >= _RETRY):
            state["tried_at"] = now.isoformat()
            self._write(state)
            outcome = "begun" if told_at is None else "lasts"
            if self._tell(outcome, self._notice.text, since, (now - since) // _DAY):
                state["told_at"] = now.isoformat()
        self._write(state)

    def over(self, now: datetime) -> None:
        """The database answers at machine time ``now``."""
        state = self._read()
        if not state:
            return
        since = datetime.fromisoformat(state["since"])
        text = f"The database answers again, after {span_text((now - since).total_seconds())}."
        if state.get("told_at") is None or self._tell("ended", text, since, 0):
            self._file.unlink(missing_ok=True)

    def _tell(self, outcome: str, text: str, since: datetime, day: int) -> bool:
        title = "Over: the database is back" if outcome == "ended" else self._notice.title
        notice = replace(self._notice, outcome=outcome, text=text, title=title, since=since.isoformat())
        notice = with_id(notice, "database", since.isoformat(), outcome, day)
        _LOG.warning("%s: %s", notice.outcome, notice.text)
        try:
            problems = {target.name: send(notice, target) for target in targets_of(self._workspace, notice.kind)}
        except NotifyError as exc:
            problems = {"every target": exc.message}
        for name, problem in problems.items():
            if problem:
                _LOG.warning("%s did not take notice %s: %s", name, notice.id, problem)
        return not any(problems.values())

    def _read(self) -> dict[str, Any]:
        try:
            state = json.loads(self._file.read_text(encoding="utf-8"))
            datetime.fromisoformat(state["since"])
        except (OSError, ValueError, KeyError, TypeError):
            return {}
        return dict(state)

    def _write(self, state: dict[str, Any]) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(f"{self._file}.new")
        partial.write_text(json.dumps(state), encoding="utf-8")
        os.replace(partial, self._file)
