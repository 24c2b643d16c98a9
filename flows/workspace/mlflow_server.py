"""``python -m flows.workspace.mlflow_server``: MLflow's pages and API, behind a login and a check of Host and Origin.

``mlflow ui`` asks nobody who they are: whoever reaches it may delete models and move aliases. Its list of hosts holds
patterns, and lets pages of other ports of this machine in. Here its application is served by ourselves, as
:mod:`flows.workspace.prefect_server` serves Prefect's. Clients send the login by ``MLFLOW_TRACKING_USERNAME`` and
``MLFLOW_TRACKING_PASSWORD``, MLflow's own variables.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from bentos.errors import IncumbentError
from bentos.settings import Settings, read_settings
from flows.errors import StackError
from flows.workspace.basic_login import BasicLogin, add_headers
from flows.workspace.logins import read_mlflow_login
from monitoring.core.hosts import AllowedHosts, ASGIApp, HostCheck, Receive, Scope, Send

_REFUSAL = b"this MLflow asks for a login; `incumbent login` shows it\n"
_HEADERS = [
    (b"x-frame-options", b"SAMEORIGIN"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
]


class LoginCheck:
    """ASGI middleware that asks for a name and a password before anything but ``/health`` is reached.

    Args:
        app: what is behind it.
        login: ``user:password``.
    """

    def __init__(self, app: ASGIApp, login: str) -> None:
        self._app = app
        self._login = BasicLogin(login)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        is_probe = scope.get("path") == "/health" and scope.get("method") in ("GET", "HEAD")
        if scope["type"] == "lifespan" or is_probe or self._login.is_sent(scope):
            await self._app(scope, receive, add_headers(send, _HEADERS))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": ""})
        else:
            headers = [(b"www-authenticate", b'Basic realm="MLflow"'), (b"content-type", b"text/plain; charset=utf-8")]
            await send({"type": "http.response.start", "status": 401, "headers": headers})
            await send({"type": "http.response.body", "body": _REFUSAL})


def main(argv: Sequence[str] | None = None) -> int:
    """Serve MLflow's API and pages until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m flows.workspace.mlflow_server", description=main.__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=5000, help="port to listen on")
    options = parser.parse_args(argv)
    try:
        settings = read_settings()
        login = read_mlflow_login(settings.root)
        allowed = AllowedHosts.of(options.host, settings.allowed_hosts)
        store = _store(settings)
    except (IncumbentError, StackError) as exc:
        print(f"mlflow server: {exc}", file=sys.stderr)  # noqa: T201  # a command talks to people
        return 2
    environment = server_environment(store, settings)
    os.environ.update(environment)
    try:
        _open_stores(store, environment)
    except Exception as exc:  # a database's own error; its text may hold the address
        print(f"mlflow server: its database cannot be used ({type(exc).__name__})", file=sys.stderr)  # noqa: T201
        return 2
    serve(options.host, options.port, allowed, login)
    return 0


def _open_stores(store: str, environment: dict[str, str]) -> None:
    """Make or upgrade the tables before anybody is answered: it takes seconds, and the first request would wait."""
    from mlflow.server.constants import ARTIFACT_ROOT_ENV_VAR
    from mlflow.server.handlers import initialize_backend_stores

    initialize_backend_stores(store, store, environment[ARTIFACT_ROOT_ENV_VAR])


def _store(settings: Settings) -> str:
    """The database that is served; an MLflow server elsewhere has pages of its own."""
    uri = os.environ.get("MLFLOW_BACKEND_STORE_URI", "") or settings.registry_uri
    if uri.startswith(("http://", "https://")):
        raise StackError("INCUMBENT_MLFLOW_URI is an MLflow server already: open its address in a browser")
    return uri


def server_environment(store: str, settings: Settings) -> dict[str, str]:
    """Return the variables by which MLflow's application finds its database and its artefacts.

    Args:
        store: database of runs and models.
        settings: name the folder of artefacts.
    """
    from mlflow.server import constants

    destination = os.environ.get("MLFLOW_ARTIFACTS_DESTINATION", "")
    proxy = {constants.SERVE_ARTIFACTS_ENV_VAR: "true", constants.ARTIFACTS_DESTINATION_ENV_VAR: destination}
    root = "mlflow-artifacts:/" if destination else settings.artifacts.as_uri()
    return {
        constants.BACKEND_STORE_URI_ENV_VAR: store,
        constants.REGISTRY_STORE_URI_ENV_VAR: store,
        constants.ARTIFACT_ROOT_ENV_VAR: root,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE": "true",  # ours is stricter, and knows our names
        **(proxy if destination else {}),
    }


def serve(host: str, port: int, allowed: AllowedHosts, login: str) -> None:
    """Serve until SIGTERM, in one process."""
    import uvicorn
    from mlflow.server.fastapi_app import app

    guarded_app = HostCheck(LoginCheck(app, login), allowed)
    uvicorn.run(guarded_app, host=host, port=port, server_header=False, log_level="warning")


if __name__ == "__main__":
    raise SystemExit(main())
