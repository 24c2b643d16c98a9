"""The ``incumbent`` command.

Each sub-command lives in ``flows/commands`` and is imported only when it is called, so that help
answers at once. Exit codes: 0 done, 1 refused with a reason, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Any

COMMANDS: dict[str, tuple[str, str]] = {
    "check": ("models.usecase", "check a use-case file"),
    "init": ("models.init", "write a first use-case file from a table"),
    "simulate": ("models.usecase", "write simulated events to a file"),
    "train": ("models.train", "train a model and judge it"),
    "tune": ("models.train", "search for training settings, then train with the best"),
    "evaluate": ("models.train", "judge a stored version on later data"),
    "score": ("models.train", "score a window of events in bulk"),
    "retrain": ("models.train", "train again where the policy says so"),
    "serve": ("platform.serve", "answer over HTTP"),
    "scribe": ("platform.serve", "ship the spool to the database"),
    "exporter": ("platform.serve", "serve what the database tells as Prometheus metrics"),
    "keys": ("platform.keys", "make, list and revoke API keys"),
    "labels": ("data.labels", "import late labels; what of each day is still open"),
    "replay": ("data.replay", "send a window of a source through a running service, in order"),
    "data": ("data.versions", "versions of the training data: list, show, diff, restore"),
    "lineage": ("release.lineage", "from a version to data, code, parameters and decisions, and back"),
    "feast": ("data.feast", "the window features as a Feast repository; a Feast view as a look-up table"),
    "lookups": ("data.lookups", "tables that fill columns by entity: show, load"),
    "windows": ("data.windows", "import history, so that windows start warm"),
    "drift": ("release.promote", "compare a window with the champion's reference"),
    "compare": ("release.promote", "compare challenger and champion on matured traffic"),
    "verdict": ("models.verdict", "judge any table of two scores and a label, without a server"),
    "plan": ("models.plan", "how many positives and days a comparison needs"),
    "appoint": ("release.appoint", "put a version under comparison, or among those that wait"),
    "dismiss": ("release.appoint", "take a version out of comparison, or from those that wait"),
    "promote": ("release.promote", "put the challenger in office"),
    "approve": ("release.approve", "agree to a promotion, with a personal key"),
    "threshold": ("release.threshold", "another threshold for a while, by two people's keys"),
    "rollback": ("release.promote", "bring the previous champion back"),
    "canary": ("release.canary", "give the challenger traffic: a share, named arms, a guarded ramp"),
    "status": ("release.status", "who is in office, and how it goes"),
    "alerts": ("release.status", "open alerts of the latest day, ranked by expected loss"),
    "report": ("release.status", "what management asks for one month"),
    "notify": ("platform.notices", "tell people what happened: once, or going on; send a test notice"),
    "audit": ("release.audit", "show, verify, export and replay the decisions; explain one answer"),
    "log": ("data.log", "prune the prediction log by age"),
    "db": ("platform.databases", "where the databases stand; upgrade and repair them"),
    "backup": ("platform.databases", "one consistent set of everything that has to be remembered"),
    "restore": ("platform.databases", "fill an empty home from a backup"),
    "deploy": ("platform.deploy", "make the deployments on a Prefect server; what people changed there stays"),
    "up": ("platform.stack", "start the whole stack and keep it up"),
    "usecase": ("platform.usecases", "the use cases of a running house: list, add, rename, retire"),
    "down": ("platform.stack", "stop a stack that was left up"),
    "login": ("platform.login", "what opens the pages of the stack: Prefect's password, a link to the reports"),
    "mlflow": ("platform.mlflow", "MLflow's own pages on models and runs, behind a login"),
    "demo": ("platform.stack", "the whole story, end to end, on simulated data"),
    "bench": ("platform.bench", "where the benches are: python -m tests.bench"),
    "drill": ("platform.drill", "cause faults on purpose and count what they cost"),
}
"""Command to (module in ``flows/commands``, one line of help)."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser = _parser(words)
    args = parser.parse_args(words)
    if args.command is None:
        parser.print_help()
        return 0
    return _run(args)


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="incumbent", description="Champion/challenger operations for risk models.")
    parser.add_argument("--version", action="version", version=_Version())
    parser.set_defaults(command=None)
    commands = parser.add_subparsers(metavar="COMMAND", dest="command")
    chosen = next((word for word in words if not word.startswith("-")), None)
    for name, (module, line) in COMMANDS.items():
        command = commands.add_parser(name, help=line, description=line[0].upper() + line[1:] + ".")
        if name == chosen:
            _module(module).configure(name, command)
    return parser


def _run(args: argparse.Namespace) -> int:
    from flows.commands.common import Reply, UsageRefused, expected_errors, show

    try:
        reply: Reply = _module(COMMANDS[args.command][0]).run(args)
    except expected_errors() as exc:
        if args.debug:
            raise
        print(" ".join([f"incumbent {args.command}: {exc}", *getattr(exc, "__notes__", ())]), file=sys.stderr)
        return 2 if isinstance(exc, UsageRefused) else 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    show(reply, as_json=args.json)
    return reply.code


def _module(name: str) -> Any:
    return importlib.import_module(f"flows.commands.{name}")


class _Version(str):
    """Looks the version up only when it is printed."""

    __slots__ = ()

    def __mod__(self, _: object) -> str:
        from importlib.metadata import version

        return f"incumbent {version('incumbent')}"


if __name__ == "__main__":
    sys.exit(main())
