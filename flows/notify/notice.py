"""One notice: what happened, where, since when, what to do. Plain sentences for people who have not read the code."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Self

from monitoring.core.hashing import canonical_json, sha256_hex


@dataclass(frozen=True)
class Notice:
    """One message.

    Attributes:
        kind: what happened, for example ``retraining``; :data:`bentos.usecase.options.NoticeKind`, or ``test``.
        environment, usecase, model: where; the last two are empty for what concerns every use case.
        outcome: one word of it, for example ``begun``, ``lasts`` or ``ended`` for what lasts.
        text: what happened, one or two sentences.
        as_of: business time, ISO 8601.
        id: the same for every attempt to send the same matter.
        title: a few words for a subject line.
        since: machine time at which it began, ISO 8601; empty where it has no length.
        todo: what to do now; empty where nothing is asked.
        link: where to look; empty where there is no page.
        name: what people call the use case, where that is not its id.
    """

    kind: str
    environment: str
    usecase: str
    model: str
    outcome: str
    text: str
    as_of: str
    id: str = ""
    title: str = ""
    since: str = ""
    todo: str = ""
    link: str = ""
    name: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON: what a webhook is sent."""
        return asdict(self)

    @classmethod
    def from_text(cls, text: str) -> Self:
        """The reverse of :meth:`to_text`."""
        return cls(**json.loads(text))

    def to_text(self) -> str:
        """JSON text: what the outbox keeps."""
        return canonical_json(self.to_json()).decode()

    @property
    def where(self) -> str:
        """``fraud · prod``, or the environment alone."""
        return " · ".join(part for part in (self.name or self.usecase, self.environment) if part)

    @property
    def subject(self) -> str:
        """One line for a subject."""
        return f"[{self.where}] {self.title or self.text}"

    @property
    def message(self) -> str:
        """The notice as plain text."""
        lines = [self.text, ""]
        lines += [f"Where: {self.where}"]
        lines += [f"Since: {time_text(self.since)}"] if self.since else []
        lines += [f"What to do: {self.todo}"] if self.todo else []
        lines += [f"Look at: {self.link}"] if self.link else []
        return "\n".join([*lines, "", f"Notice {self.id[:16]}"])


def with_id(notice: Notice, *parts: object) -> Notice:
    """The notice with the id that follows from what it is about: the same parts always give the same id."""
    id_parts = [notice.kind, notice.environment, notice.usecase, *(str(part) for part in parts)]
    return replace(notice, id=sha256_hex(canonical_json(id_parts))[:32])


def time_text(moment: str | datetime) -> str:
    """A time as people write it, UTC: ``6 June 2026 00:00 UTC``."""
    time = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    time = time.astimezone(UTC)
    return f"{time.day} {time:%B %Y %H:%M} UTC"


def span_text(seconds: float) -> str:
    """A length of time in words: ``3 minutes``, ``2 hours``, ``4 days``."""
    for size, name in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= size:
            count = round(seconds / size)
            return f"{count} {name}{'s' if count != 1 else ''}"
    return "less than a minute"
