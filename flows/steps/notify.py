"""Tell people what the loop did: one POST of JSON to a webhook, or a line of the log.

A message names models, outcomes and reasons, and never an event, an entity or a value of a feature.
"""

from __future__ import annotations

import json
import logging
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from http.client import HTTPException
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from flows.house import House

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Notice:
    """One message.

    Attributes:
        kind: what happened, for example ``retraining``.
        environment, usecase, model: where.
        outcome: one word of the step's report.
        text: one line for people.
        as_of: business time, ISO 8601.
    """

    kind: str
    environment: str
    usecase: str
    model: str
    outcome: str
    text: str
    as_of: str


def tell(house: House, kind: str, outcome: str, text: str, as_of: datetime) -> bool:
    """A notice about a house's model, to the webhook that its settings name; see :func:`notify`."""
    where = (house.settings.env, house.usecase.name, house.model)
    notice = Notice(kind, *where, outcome, text, as_of.isoformat())
    return notify(notice, house.settings.notify_url.get_secret_value())


@contextmanager
def telling_of_failure(house: House, kind: str, as_of: datetime) -> Iterator[None]:
    """Tell people where the block ends with an error; the error goes on."""
    try:
        yield
    except Exception as exc:
        tell(house, kind, "failed", f"{type(exc).__name__}: see the run's log", as_of)
        raise


def notify(notice: Notice, url: str, *, attempts: int = 3, timeout_s: float = 5.0, pause_s: float = 0.5) -> bool:
    """Send a notice; a failure is logged and never raised, for the work it tells of is done.

    Args:
        notice: the message.
        url: of the webhook, http or https; empty writes the notice to the log alone. It may hold a token,
            so it is never logged.
        attempts: tries in all. An answer of 4xx is final, but 429.
        timeout_s: of each try.
        pause_s: before the second try; it doubles.

    Returns:
        Whether the webhook took the notice; false without one.
    """
    _LOG.info("%s of %s: %s: %s", notice.kind, notice.model, notice.outcome, notice.text)
    if not url:
        return False
    problem = "the URL is not http or https"
    if _is_web(url):
        body = json.dumps(asdict(notice)).encode()
        for attempt in range(attempts):
            if attempt:
                time.sleep(pause_s * 2 ** (attempt - 1))
            try:
                _post(url, body, timeout_s)
                return True
            except HTTPError as exc:
                exc.close()
                problem = f"it answered {exc.code}"
                if exc.code < 500 and exc.code != 429:
                    break
            except (OSError, HTTPException, ValueError) as exc:
                problem = type(exc).__name__  # its text may hold the URL
    _LOG.warning("the webhook did not take a notice of kind %s: %s; see INCUMBENT_NOTIFY_URL", notice.kind, problem)
    return False


def _is_web(url: str) -> bool:
    try:
        return urlsplit(url).scheme in ("http", "https")
    except ValueError:
        return False


def _post(url: str, body: bytes, timeout_s: float) -> None:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method="POST")  # noqa: S310 - http(s) only
    with urllib.request.urlopen(request, timeout=timeout_s):  # noqa: S310 - http(s) only
        pass
