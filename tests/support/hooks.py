"""A webhook on this machine that keeps what it is sent."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any


class Hook(HTTPServer):
    """A webhook that gives scripted answers, then 204."""

    def __init__(self, answers: Sequence[int]) -> None:
        super().__init__(("127.0.0.1", 0), Receiver)
        self.answers, self.bodies = list(answers), list[Any]()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/token-4711"


class Receiver(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        self.server.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(self.server.answers.pop(0) if self.server.answers else 204)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""


@contextmanager
def webhook(answers: Sequence[int] = ()) -> Iterator[Hook]:
    """A webhook that listens, and is gone afterwards."""
    with Hook(answers) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
