"""``python -m flows.console``: serve the operators' pages of one home until SIGTERM."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from bentos.errors import IncumbentError
from bentos.keys.secret_file import read_secret
from bentos.settings import Settings, read_settings
from flows.workspace.logins import console_token_file, make_logins
from monitoring.core.hosts import AllowedHosts

_SHORTEST_TOKEN = 16


def main(argv: Sequence[str] | None = None) -> int:
    """Serve the pages; exit code 2 where the settings do not allow it."""
    parser = argparse.ArgumentParser(prog="python -m flows.console", description=main.__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8900, help="port to listen on")
    options = parser.parse_args(argv)
    try:
        settings = read_settings()
        token = read_token(settings)
    except (IncumbentError, OSError) as exc:
        print(f"console: {exc}", file=sys.stderr)  # noqa: T201  # a command talks to people
        return 2
    serve(settings, token, options.host, options.port)
    return 0


def read_token(settings: Settings) -> str:
    """The token: ``INCUMBENT_CONSOLE_TOKEN``, else the file in the home, which is made where there is none.

    Raises:
        SettingsError: the variable is too short to be a secret.
        SecretFileError: the file cannot be used.
    """
    from bentos.errors import SettingsError

    token = settings.console_token.get_secret_value()
    if token and len(token) < _SHORTEST_TOKEN:
        raise SettingsError(f"INCUMBENT_CONSOLE_TOKEN is too short: {_SHORTEST_TOKEN} characters at least")
    if token:
        return token
    make_logins(settings.root)
    return read_secret(console_token_file(settings.root))


def serve(settings: Settings, token: str, host: str, port: int) -> None:
    """Serve until SIGTERM. Requests are not logged: the address of a login holds the token."""
    import uvicorn

    from flows.console.app import Console
    from flows.console.session import Sessions

    console = Console(settings.reports, Sessions(token, f"incumbent-{port}"))
    app = console.app(AllowedHosts.of(host, settings.allowed_hosts))
    uvicorn.run(app, host=host, port=port, access_log=False, server_header=False, log_level="warning")


if __name__ == "__main__":
    raise SystemExit(main())
