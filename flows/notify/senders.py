"""Send one notice to one address: JSON to a webhook (http, https), anything else through Apprise.

An address holds a secret, and so may the texts of errors: what is said of a failure is made of known parts only.
"""

from __future__ import annotations

import io
import json
import logging
import re
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from threading import Lock
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from flows.notify.notice import Notice
from flows.notify.targets import Target

TIMEOUT_S: Final = 5.0
_LOG_LOCK = Lock()
_CODE: Final = re.compile(r"error=(\d{3})")


def send(notice: Notice, target: Target) -> str:
    """Send a notice to every address of a target; what went wrong, or an empty text.

    A target with several addresses has taken a notice when each of them has.
    """
    if not target.configured:
        return f"{target.variable} is not set"
    problems = [problem for url in target.urls if (problem := _send(notice, url))]
    return "; ".join(dict.fromkeys(problems))


def _send(notice: Notice, url: str) -> str:
    try:
        scheme = urlsplit(url).scheme.lower()
    except ValueError:
        return "its address cannot be read"
    return _post(notice, url) if scheme in ("http", "https") else _apprise(notice, url, scheme)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST would arrive as a GET without the notice."""

    def redirect_request(self, *_: Any) -> None:
        """Follow none: the answer counts as it is."""


def _post(notice: Notice, url: str) -> str:
    body = json.dumps(notice.to_json()).encode()
    try:
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method="POST")  # noqa: S310 - http(s) only
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=TIMEOUT_S):
            return ""
    except HTTPError as exc:
        exc.close()
        return f"it answered {exc.code}"
    except URLError as exc:
        return f"nobody answers ({type(exc.reason).__name__})" if isinstance(exc.reason, OSError) else "nobody answers"
    except (OSError, HTTPException, ValueError) as exc:
        return f"it cannot be reached ({type(exc).__name__})"


def _apprise(notice: Notice, url: str, scheme: str) -> str:
    from apprise import Apprise, NotifyFormat, NotifyType

    with _capture_logs() as log:
        try:
            service = Apprise()
            if not service.add(url):
                return f"its address is none that Apprise knows: {scheme or 'no scheme'}://"
            kind = NotifyType.SUCCESS if notice.outcome in ("ended", "done") else NotifyType.WARNING
            accepted = service.notify(
                body=notice.message, title=notice.subject, notify_type=kind, body_format=NotifyFormat.TEXT
            )
        except Exception as exc:  # a service's own fault must not end the notifier; its text may hold the address
            return f"{scheme} failed ({type(exc).__name__})"
        code = _CODE.search(log.getvalue())
    return "" if accepted else f"{scheme}: it answered {code[1]}" if code else f"{scheme}: it did not take it"


@contextmanager
def _capture_logs() -> Iterator[io.StringIO]:
    """Keep what Apprise and its HTTP library log to ourselves: addresses and bodies stand in it."""
    names = ("apprise", "urllib3", "requests")
    with _LOG_LOCK:
        loggers = [logging.getLogger(name) for name in names]
        states = [(logger.propagate, logger.level, list(logger.handlers)) for logger in loggers]
        text = io.StringIO()
        handler = logging.StreamHandler(text)
        for logger in loggers:
            logger.propagate, logger.handlers = False, [handler]
            logger.setLevel(logging.WARNING)
        try:
            yield text
        finally:
            for logger, (propagate, level, handlers) in zip(loggers, states, strict=True):
                logger.propagate, logger.handlers = propagate, handlers
                logger.setLevel(level)
