"""``login``: what opens the pages of the stack that is up."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from flows.commands.common import CommandResult, common_arguments, home_of
from monitoring.core.text_table import table

if TYPE_CHECKING:
    from flows.workspace.installation import Home


def configure(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    common_arguments(parser)
    parser.add_argument("--demo", action="store_true", help="the demo's home instead of your own")


def run(args: argparse.Namespace) -> CommandResult:
    """Show the logins of a home to whoever may read its files; ``--json`` names the files alone."""
    from bentos.keys.secret_file import read_secret
    from flows.workspace.logins import console_token_file, make_logins, read_mlflow_login, read_prefect_login

    home = home_of(args)
    make_logins(home.root)
    addresses = home.live_addresses()
    prefect = addresses.get("prefect", "").removesuffix("/api")
    reports = addresses.get("reports", "")
    token = urlencode({"token": read_secret(console_token_file(home.root))})
    rows = [
        ("Prefect", prefect or "not up"),
        ("  type into its one field", read_prefect_login(home.root)),
        ("reports", f"{reports or 'not up: '}/login?{token}"),
        (f"MLflow (incumbent mlflow{' --demo' * args.demo})", read_mlflow_login(home.root)),
    ]
    return CommandResult(where(home), f"{table(rows)}\n\nWhoever has Prefect's password can run code as its worker.")


def where(home: Home) -> dict[str, Any]:
    """Where the logins are, without what they are."""
    from flows.workspace.logins import (
        MLFLOW_LOGIN,
        SERVER_AUTH,
        console_token_file,
        mlflow_login_file,
        prefect_login_file,
    )

    own, own_mlflow = os.environ.get(SERVER_AUTH), os.environ.get(MLFLOW_LOGIN)
    return {
        "prefect_login": f"variable {SERVER_AUTH}" if own else str(prefect_login_file(home.root)),
        "reports_token": str(console_token_file(home.root)),
        "mlflow_login": f"variable {MLFLOW_LOGIN}" if own_mlflow else str(mlflow_login_file(home.root)),
    }
