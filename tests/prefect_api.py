"""A client of Prefect's REST interface that asks again as Prefect's own client does."""

from __future__ import annotations

import time

import httpx


class _AskAgain(httpx.BaseTransport):
    """503 is Prefect's "SQLite was busy, ask again": nothing was written, and every Prefect client repeats the call."""

    def __init__(self, tries: int = 10) -> None:
        self._inner = httpx.HTTPTransport()
        self._tries = tries

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        for _ in range(self._tries - 1):
            answer = self._inner.handle_request(request)
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                return answer
            answer.read()
            answer.close()
            time.sleep(0.5)
        return self._inner.handle_request(request)

    def close(self) -> None:
        self._inner.close()


def prefect_api(url: str) -> httpx.Client:
    """A client for the server at ``url`` (ending in ``/api``)."""
    return httpx.Client(base_url=url, timeout=30.0, transport=_AskAgain(), trust_env=False)
