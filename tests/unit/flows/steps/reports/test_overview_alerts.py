"""Which alerts fire, by the word of a Prometheus server that answers, or does not."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bentos.settings import read_settings
from flows.steps.reports.overview import firing_alerts


def alert(name: str, state: str = "firing") -> dict[str, Any]:
    return {"labels": {"alertname": name, "severity": "page"}, "annotations": {"summary": "so it is"}, "state": state}


@contextmanager
def answering(alerts: list[dict[str, Any]]) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"status": "success", "data": {"alerts": alerts}}).encode())

        def log_message(self, *_: object) -> None:
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def said(tmp_path: Path, url: str) -> tuple[str, ...]:
    return firing_alerts(read_settings(home=tmp_path, prometheus_url=url))


def test_firing_alerts_are_told_and_pending_ones_and_the_watchdog_are_not(tmp_path: Path) -> None:
    with answering([alert("Watchdog"), alert("NotReady"), alert("Later", "pending")]) as url:
        assert said(tmp_path, url) == ("NotReady (page): so it is",)


def test_a_watchdog_that_does_not_fire_is_told(tmp_path: Path) -> None:
    with answering([]) as url:
        assert said(tmp_path, url) == ("the watchdog does not fire: alerts may not be evaluated",)


def test_silence_is_no_proof_and_nobody_is_asked_without_an_address(tmp_path: Path) -> None:
    assert "whether an alert fires is not known" in said(tmp_path, "http://127.0.0.1:9")[0]
    assert said(tmp_path, "") == ()
