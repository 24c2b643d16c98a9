"""The logins of the servers that ``incumbent up`` starts: each home has its own, in files for its owner alone.

Prefect has one password and no roles. Whoever holds it can start and change deployments, and so run code as the
worker. The token of the reports opens their pages and nothing else.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

from bentos.keys.secret_file import make_secret, read_secret
from flows.errors import StackError

PREFECT_USER = "admin"
SERVER_AUTH = "PREFECT_SERVER_API_AUTH_STRING"
"""The login of a server that is started here."""
CLIENT_AUTH = "PREFECT_API_AUTH_STRING"
"""The login that a client sends to the server of ``PREFECT_API_URL``."""

MLFLOW_LOGIN = "INCUMBENT_MLFLOW_LOGIN"
"""The login of an MLflow server that is started here."""

_WELL_FORMED = re.compile(r"[^\s:]+:[!-~]{8,}")
# What would open the server again, or say twice what `up` says: refused in words, never dropped in silence.
_NAMES = "a name besides this machine's is listed in INCUMBENT_ALLOWED_HOSTS"
_PAGES = "the pages ask the server that they came from, under /api"
_REFUSED = {
    "PREFECT_SERVER_API_HOST": "say `incumbent up --host ADDRESS`",
    "PREFECT_SERVER_API_PORT": "the port is chosen by `incumbent up`",
    "PREFECT_SERVER_API_BASE_PATH": "the API is served under /api",
    "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": _NAMES,
    "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": _NAMES,
    "PREFECT_SERVER_UI_API_URL": _PAGES,
    "PREFECT_UI_API_URL": _PAGES,
    "PREFECT_SERVER_UI_SERVE_BASE": _PAGES,
    "PREFECT_UI_SERVE_BASE": _PAGES,
}
_CSRF = ("PREFECT_SERVER_CSRF_PROTECTION_ENABLED", "PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED")
_YES = ("true", "1", "t", "yes", "y", "on")
CONSIDERED = frozenset({SERVER_AUTH, CLIENT_AUTH, *_REFUSED, *_CSRF})
"""A person's own variables that a server started here follows, or refuses in words."""


def prefect_login_file(root: Path) -> Path:
    """File of the home's login for its own Prefect server."""
    return root / "prefect.login"


def console_token_file(root: Path) -> Path:
    """File of the token that opens the home's reports."""
    return root / "console.token"


def mlflow_login_file(root: Path) -> Path:
    """File of the home's login for MLflow's pages and API."""
    return root / "mlflow.login"


def make_logins(root: Path) -> None:
    """Make the logins of a home that are not there yet; those that are stay."""
    make_secret(prefect_login_file(root), f"{PREFECT_USER}:{secrets.token_urlsafe(24)}")
    make_secret(console_token_file(root), secrets.token_urlsafe(32))
    make_secret(mlflow_login_file(root), f"{PREFECT_USER}:{secrets.token_urlsafe(24)}")


def read_prefect_login(root: Path, environ: Mapping[str, str] = os.environ) -> str:
    """The login of the Prefect server that this home starts, ``user:password``.

    Args:
        root: the home.
        environ: a person's own ``PREFECT_SERVER_API_AUTH_STRING`` wins over the home's file.

    Raises:
        SecretFileError: there is none yet, or the file cannot be used.
        StackError: it is not of the form ``user:password``.
    """
    return _read_login(SERVER_AUTH, prefect_login_file(root), environ)


def read_mlflow_login(root: Path, environ: Mapping[str, str] = os.environ) -> str:
    """The login of the MLflow server that this home starts, ``user:password``.

    Args:
        root: the home.
        environ: a person's own ``INCUMBENT_MLFLOW_LOGIN`` wins over the home's file.

    Raises:
        SecretFileError: there is none yet, or the file cannot be used.
        StackError: it is not of the form ``user:password``.
    """
    return _read_login(MLFLOW_LOGIN, mlflow_login_file(root), environ)


def _read_login(variable: str, file: Path, environ: Mapping[str, str]) -> str:
    """A login from a person's own variable, else from the home's file; see :func:`read_prefect_login`."""
    given = environ.get(variable, "")
    login = given or read_secret(file)
    if _WELL_FORMED.fullmatch(login) is None:
        where = variable if given else file
        raise StackError(f"{where} must be user:password, with 8 characters or more after the colon and no white space")
    return login


def server_environment(login: str, origin: str) -> dict[str, str]:
    """The variables that close a Prefect server: its login, whose pages may ask it, CSRF protection.

    Args:
        login: ``user:password``.
        origin: of its own pages, ``http://host:port``.
    """
    return {
        SERVER_AUTH: login,
        CLIENT_AUTH: login,
        "PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": origin,
        # Relative, so that the pages ask the server that they came from, whatever its name is there.
        "PREFECT_SERVER_UI_API_URL": "/api",
    }


def require_closed_server(root: Path, environ: Mapping[str, str] = os.environ) -> None:
    """Refuse variables of a person's own that would open the server, or that clients and server would read differently.

    Args:
        root: the home.
        environ: the variables.

    Raises:
        StackError: naming the variable, and what to do.
    """
    for name, advice in _REFUSED.items():
        if environ.get(name):
            raise StackError(f"{name} is set and cannot be followed here: {advice}, and unset it")
    for name in _CSRF:
        if environ.get(name, "true").strip().lower() not in _YES:
            raise StackError(f"{name} would switch off what keeps other sites' pages out; unset it")
    client_login = environ.get(CLIENT_AUTH)
    if client_login and not environ.get("PREFECT_API_URL") and client_login != read_prefect_login(root, environ):
        raise StackError(
            f"{CLIENT_AUTH} is not the login of the server that is started here; set {SERVER_AUTH} to the same, "
            "or unset both and the home makes one of its own"
        )
