"""``python -m bentos.release status | rollback | promote | recover``: works inside the image, without Prefect."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bentos.errors import IncumbentError, RegistryUnavailable, ReleaseError
from bentos.release import default_actor, promote, recover, rollback
from bentos.settings import Settings, read_settings
from bentos.usecase import UseCase, load_usecase
from monitoring.errors import MonitoringError
from monitoring.gates import Verdict
from monitoring.store import Store, open_store

if TYPE_CHECKING:
    from bentos.roles import ModelRegistry


@dataclass(frozen=True)
class _Place:
    """What every command works on."""

    settings: Settings
    usecase: UseCase
    registry: ModelRegistry
    store: Store

    @property
    def model(self) -> str:
        return self.settings.model_name(self.usecase.name)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; 0 is done, 1 is refused with a reason, 2 is wrong usage."""
    options = _parser().parse_args(argv)
    try:
        place = _open(options.usecase)
        try:
            _show(options.run(place, options), options.json)
        finally:
            place.store.close()
    except (IncumbentError, MonitoringError) as exc:
        print(f"refused: {exc}", file=sys.stderr)  # noqa: T201  # a command talks to people
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bentos.release", description=main.__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--usecase", default="", help="name or TOML file; default INCUMBENT_USECASE")
    shared.add_argument("--json", action="store_true", help="print one JSON object")
    status = commands.add_parser("status", parents=[shared], help="who holds which role, who serves what")
    status.set_defaults(run=_status)
    acting = argparse.ArgumentParser(add_help=False)
    acting.add_argument("--actor", default=default_actor(), help="who asks; default the user of this process")
    acting.add_argument("--wait", type=float, default=10.0, help="seconds to wait for the replicas")
    acting.add_argument("--preview", action="store_true", help="say what would happen, change nothing")
    back = commands.add_parser("rollback", parents=[shared, acting], help="put @previous back into office")
    back.add_argument("--reason", required=True, help="what went wrong, in a few words")
    back.set_defaults(run=_rollback)
    up = commands.add_parser("promote", parents=[shared, acting], help="put the challenger of a verdict into office")
    up.add_argument("--reason", default="", help="why; default the verdict's own first reason")
    up.add_argument("--verdict", type=Path, help="JSON file; default the last stored comparison")
    up.set_defaults(run=_promote)
    mend = commands.add_parser("recover", parents=[shared, acting], help="end what a dead process left behind")
    mend.set_defaults(run=_recover)
    return parser


def _open(reference: str) -> _Place:
    from bentos.registry import open_registry

    settings = read_settings()
    usecase = load_usecase(reference or settings.usecase)
    return _Place(settings, usecase, open_registry(settings), open_store(settings.log_url))


def _status(place: _Place, _options: argparse.Namespace) -> dict[str, Any]:
    try:
        roles = {role: ref.version for role, ref in place.registry.roles(place.model).items()}
        reachable = True
    except RegistryUnavailable:
        roles, reachable = {}, False
    champion = place.store.decisions.terms(place.model, "champion")
    replicas = place.store.serving.live(place.usecase.name)
    return {
        "model": place.model,
        "registry_reachable": reachable,
        "roles": roles,
        "champion_by_journal": champion[-1][0] if champion else None,
        "in_office_since": champion[-1][1].isoformat() if champion else None,
        "served": {r.replica: {"version": r.version, "seconds_ago": round(r.age, 1)} for r in replicas},
        "barred": dict(place.store.decisions.barred(place.model)),
        "unfinished": [f"{o.kind} to {o.to_version}: {o.state}" for o in place.store.journal.unfinished(place.model)],
        "audit_problems": place.store.decisions.verify(),
    }


def _rollback(place: _Place, options: argparse.Namespace) -> dict[str, Any]:
    done = rollback(
        place.registry, place.store, place.model, place.usecase, options.actor, options.reason, datetime.now(UTC),
        preview=options.preview, wait_seconds=options.wait,
    )  # fmt: skip
    return asdict(done)


def _promote(place: _Place, options: argparse.Namespace) -> dict[str, Any]:
    verdict = _read_verdict(options.verdict) if options.verdict else _last_verdict(place)
    done = promote(
        place.registry, place.store, verdict, usecase=place.usecase, actor=options.actor, now=datetime.now(UTC),
        reason=options.reason, preview=options.preview, wait_seconds=options.wait,
    )  # fmt: skip
    return asdict(done)


def _recover(place: _Place, options: argparse.Namespace) -> dict[str, Any]:
    if options.preview:
        left = place.store.journal.unfinished(place.model)
    else:
        left = recover(
            place.registry, place.store, place.model, usecase=place.usecase, actor=options.actor, now=datetime.now(UTC)
        )
    return {"operations": [f"{o.kind} to {o.to_version}: {o.state}" for o in left]}


def _read_verdict(file: Path) -> Verdict:
    try:
        return _verdict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError) as exc:
        raise ReleaseError(f"{file} holds no verdict: {exc}") from exc


def _last_verdict(place: _Place) -> Verdict:
    report = place.store.reports.latest(place.usecase.name, "comparison")
    if report is None:
        raise ReleaseError("no comparison is stored; run one, or name a file with --verdict")
    return _verdict(report.payload)


def _verdict(payload: Any) -> Verdict:
    try:
        return Verdict.from_json(payload.get("verdict", payload))
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        raise ReleaseError("the stored comparison holds no verdict") from exc


def _show(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(result, default=str))  # noqa: T201  # a command talks to people
        return
    for name, value in result.items():
        print(f"{name:20} {_line(value)}")  # noqa: T201  # a command talks to people


def _line(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k}: {v}" for k, v in value.items()) or "-"
    if isinstance(value, list | tuple):
        return "; ".join(str(v) for v in value) or "-"
    return "-" if value in (None, "") else str(value)
