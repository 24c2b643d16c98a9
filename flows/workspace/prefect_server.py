"""``python -m flows.workspace.prefect_server``: Prefect's own server, behind a check of Host and Origin.

``prefect server start`` answers any Host, so a page whose name was made to lead here (DNS rebinding) is of the same
site as the server. CSRF protection and whose pages may ask are Prefect's own, set by
:func:`flows.workspace.logins.server_environment`. The login is Prefect's too, and asked for here first, because Prefect
looks CSRF tokens up in its database before it asks who wants to know. Without a login this program does not start.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from urllib.parse import urlsplit

from bentos.errors import IncumbentError
from bentos.settings import read_settings
from flows.errors import FlowRefused, StackError
from flows.workspace.basic_login import BasicLogin, add_headers
from flows.workspace.logins import read_prefect_login, server_environment
from monitoring.core.hosts import AllowedHosts, ASGIApp, HostCheck, Receive, Scope, Send, answer_text

_PROBES = frozenset({"/api/health", "/api/ready"})
_SCHEMA_PAGES = frozenset({"/docs", "/redoc", "/openapi.json", "/docs/oauth2-redirect"})
"""Each request for one costs seconds of a processor, whoever asks; ``/api/docs`` says the same after the login."""

_HEADERS = [
    # The pages would send what people do to their maker's collector, and may not be shown inside another page.
    (b"content-security-policy", b"connect-src 'self'; frame-ancestors 'none'; base-uri 'self'; object-src 'none'"),
    (b"x-frame-options", b"DENY"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]


class LoginCheck:
    """ASGI middleware that asks for the login before anything behind ``/api`` is reached.

    Websockets send theirs in the first message, to Prefect; the pages are the same for everybody and hold no data.

    Args:
        app: Prefect's application.
        login: ``user:password``.
    """

    def __init__(self, app: ASGIApp, login: str) -> None:
        self._app = app
        self._login = BasicLogin(login)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http" and scope["path"] in _SCHEMA_PAGES:
            await answer_text(send, 404, "there is no such page; see /api/docs")
        elif scope["type"] == "http" and self._needs_login(scope) and not self._login.is_sent(scope):
            await answer_text(send, 401, "this Prefect server asks for a login; `incumbent login` shows it")
        else:
            await self._app(scope, receive, add_headers(send, _HEADERS))

    @staticmethod
    def _needs_login(scope: Scope) -> bool:
        path, method = scope["path"], scope["method"]
        is_probe = path in _PROBES and method in ("GET", "HEAD")
        return (path == "/api" or path.startswith("/api/")) and not is_probe and method != "OPTIONS"


def main(argv: Sequence[str] | None = None) -> int:
    """Serve Prefect's API and pages until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m flows.workspace.prefect_server", description=main.__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=4200, help="port to listen on")
    options = parser.parse_args(argv)
    try:
        settings = read_settings()
        login = read_prefect_login(settings.root)
        allowed = AllowedHosts.of(options.host, settings.allowed_hosts)
    except (IncumbentError, StackError) as exc:
        print(f"prefect server: {exc}", file=sys.stderr)  # noqa: T201  # a command talks to people
        return 2
    os.environ.update(server_environment(login, f"http://{options.host}:{options.port}"))
    serve(options.host, options.port, allowed, login)
    return 0


def serve(host: str, port: int, allowed: AllowedHosts, login: str) -> None:
    """Serve until SIGTERM, with the settings that Prefect's own command would use."""
    import uvicorn
    from prefect.server.api.server import create_app
    from prefect.settings import get_current_settings

    server = get_current_settings().server
    uvicorn.run(
        HostCheck(LoginCheck(create_app(final=True), login), allowed),
        host=host,
        port=port,
        timeout_keep_alive=server.api.keepalive_timeout,
        ws_ping_interval=server.api.websocket_ping_interval,
        ws_ping_timeout=server.api.websocket_ping_timeout,
        log_level=server.logging_level.lower(),
        server_header=False,
    )


if __name__ == "__main__":
    raise SystemExit(main())


_CREDENTIALS = ("PREFECT_API_KEY", "PREFECT_API_AUTH_STRING", "PREFECT_SERVER_API_AUTH_STRING")


def require_guarded_server() -> None:
    """Refuse approvals on a Prefect server that anybody may use: on this machine too, any web page could.

    Raises:
        FlowRefused: naming what to set.
    """
    url = os.environ.get("PREFECT_API_URL")
    if not url or any(os.environ.get(name) for name in _CREDENTIALS):
        return
    raise FlowRefused(
        f"the Prefect server at {urlsplit(url).hostname} asks nobody who they are, so nobody can approve through it; "
        "set PREFECT_SERVER_API_AUTH_STRING on the server and PREFECT_API_AUTH_STRING on workers and clients "
        "(`incumbent up` does both)"
    )
