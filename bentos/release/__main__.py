"""``python -m bentos.release status | rollback | promote | recover | reconcile | threshold | review``.

Works inside the image, without Prefect; ``status`` and ``rollback`` also without a registry.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bentos.errors import IncumbentError, ReleaseError
from bentos.keys import KeyRing
from bentos.keys.prompt import tokens
from bentos.promotion.promote import (
    ReleaseContext,
    Request,
    default_actor,
    promote,
    reconcile,
    recover,
    rollback,
)
from bentos.release.affected_events import affected_by_rollback
from bentos.release.emergency import (
    lift_threshold,
    order_threshold,
    promote_emergency,
    review_emergency,
    two_people,
)
from bentos.release.status import status
from bentos.settings import Settings, read_settings
from bentos.usecase.definition import UseCase
from bentos.usecase.loading import load_usecase
from monitoring.core.durations import parse_duration
from monitoring.core.verdict import Verdict
from monitoring.errors import MonitoringError
from monitoring.store import Store, open_store


@dataclass(frozen=True)
class _Setup:
    """What every command works on."""

    settings: Settings
    context: ReleaseContext

    @property
    def store(self) -> Store:
        return self.context.store

    @property
    def usecase(self) -> UseCase:
        return self.context.usecase

    @property
    def model(self) -> str:
        return self.context.model


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; 0 is done, 1 is refused with a reason, 2 is wrong usage."""
    options = _parser().parse_args(argv)
    try:
        setup = _open(options)
        try:
            _show(options.run(setup, options), options.json)
        finally:
            setup.store.close()
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
    status_parser = commands.add_parser("status", parents=[shared], help="who holds which role, who serves what")
    status_parser.set_defaults(run=_status)
    release_options = argparse.ArgumentParser(add_help=False)
    release_options.add_argument("--actor", default=default_actor(), help="who asks; default the user of this process")
    release_options.add_argument("--wait", type=float, default=10.0, help="seconds to wait for the replicas")
    release_options.add_argument("--preview", action="store_true", help="say what would happen, change nothing")
    rollback_parser = commands.add_parser(
        "rollback", parents=[shared, release_options], help="make @previous champion again"
    )
    rollback_parser.add_argument("--reason", required=True, help="what went wrong, in a few words")
    rollback_parser.set_defaults(run=_rollback)
    promote_parser = commands.add_parser(
        "promote", parents=[shared, release_options], help="put the challenger of a verdict into the champion's role"
    )
    promote_parser.add_argument("--reason", default="", help="why; default the verdict's own first reason")
    promote_parser.add_argument("--verdict", type=Path, help="JSON file; default the last stored comparison")
    promote_parser.add_argument(
        "--emergency", action="store_true", help="without a verdict, with the keys of two people"
    )
    promote_parser.add_argument(
        "--until", help="of an emergency: ISO time, or 4h from now; then it is rolled back by itself"
    )
    _key_files(promote_parser)
    promote_parser.set_defaults(run=_promote)
    recover_parser = commands.add_parser(
        "recover", parents=[shared, release_options], help="end what a dead process left behind"
    )
    recover_parser.set_defaults(run=_recover)
    reconcile_parser = commands.add_parser(
        "reconcile", parents=[shared, release_options], help="make the aliases those of the journal"
    )
    reconcile_parser.add_argument("--reason", default="", help="why they differed, if it is known")
    reconcile_parser.set_defaults(run=_reconcile)
    threshold_parser = commands.add_parser(
        "threshold", parents=[shared, release_options], help="another threshold for a while, by two keys"
    )
    threshold_parser.add_argument(
        "--set", type=float, dest="value", help="calibrated scores at or above it are flagged"
    )
    threshold_parser.add_argument(
        "--until", help="ISO time, or a duration from now such as 4h; the promoted one holds again then"
    )
    threshold_parser.add_argument("--lift", action="store_true", help="end the order now; one key is enough")
    threshold_parser.add_argument("--reason", required=True, help="why, in a few words")
    _key_files(threshold_parser)
    threshold_parser.set_defaults(run=_threshold)
    review_parser = commands.add_parser(
        "review", parents=[shared, release_options], help="note that you reviewed an emergency promotion"
    )
    review_parser.add_argument("operation", help="the first digits of its operation id; see status")
    review_parser.add_argument("--note", required=True, help="what you found")
    _key_files(review_parser)
    review_parser.set_defaults(run=_review)
    return parser


def _key_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--key-file", action="append", default=[], metavar="FILE", help="a file with one person's key; repeat for two"
    )


def _open(options: argparse.Namespace) -> _Setup:
    from bentos.registry.mlflow import open_registry

    settings = read_settings()
    usecase = load_usecase(options.usecase or settings.usecase)
    context = ReleaseContext(
        open_registry(settings), open_store(settings.log_url), usecase, settings.model_name(usecase.name),
        wait_seconds=getattr(options, "wait", 0.0),
    )  # fmt: skip
    return _Setup(settings, context)


def _request(options: argparse.Namespace, reason: str | None = None) -> Request:
    return Request(options.actor, options.reason if reason is None else reason, datetime.now(UTC), options.preview)


def _status(setup: _Setup, _options: argparse.Namespace) -> dict[str, Any]:
    return status(setup.context.registry, setup.store, setup.usecase, setup.model, datetime.now(UTC))


def _rollback(setup: _Setup, options: argparse.Namespace) -> dict[str, Any]:
    request = _request(options)
    result = rollback(setup.context, request)
    if request.preview:
        return asdict(result)
    affected = affected_by_rollback(setup.context, setup.settings, result, request.actor, request.at)
    if affected is None:
        return asdict(result)
    return asdict(result) | {"affected": affected.to_json() if options.json else affected.summary}


def _promote(setup: _Setup, options: argparse.Namespace) -> dict[str, Any]:
    if options.emergency:
        return _promote_emergency(setup, options)
    verdict = _file_verdict(setup, options.verdict) if options.verdict else _last_verdict(setup)
    return asdict(promote(setup.context, verdict, _request(options)))


def _promote_emergency(setup: _Setup, options: argparse.Namespace) -> dict[str, Any]:
    request = _request(options)
    keys = two_people(_ring(setup), tokens(options.key_file, 2), request.at)
    target = setup.context.registry.resolve(setup.model, "challenger")
    until = end_of(options.until, request.at)
    return asdict(promote_emergency(setup.context, target.version, keys, request, until=until))


def _reconcile(setup: _Setup, options: argparse.Namespace) -> dict[str, Any]:
    return {"steps": reconcile(setup.context, _request(options))}


def _threshold(setup: _Setup, options: argparse.Namespace) -> dict[str, Any]:
    return threshold_command(setup.store, setup.usecase, setup.model, _ring(setup), options, options.actor)


def threshold_command(
    store: Store, usecase: UseCase, model: str, ring: KeyRing, options: argparse.Namespace, actor: str
) -> dict[str, Any]:
    """Order or lift a threshold with keys from files, the environment or a prompt; what was recorded.

    Args:
        store, usecase, model: whose threshold.
        ring: the installation's keys.
        options: ``value``, ``until``, ``lift``, ``reason`` and ``key_file``, as they were given.
        actor: who asks.
    """
    request = Request(actor, options.reason, datetime.now(UTC))
    if options.lift:
        key = ring.check(tokens(options.key_file, 1)[0], "approve", request.at)
        decision = lift_threshold(store, usecase, model, key, request)
    elif options.value is None or options.until is None:
        raise ReleaseError("say --set X and --until T, or --lift")
    else:
        keys = two_people(ring, tokens(options.key_file, 2), request.at)
        until = _moment(options.until, request.at)
        decision = order_threshold(store, usecase, model, options.value, until, keys, request)
    return {"decision": decision.id, "seq": decision.seq, "kind": decision.kind, **decision.payload}


def end_of(until: str | None, now: datetime) -> datetime | None:
    """When an emergency ends, as a person wrote it; ``ReleaseError`` for what is no time."""
    return None if until is None else _moment(until, now)


def _moment(text: str, now: datetime) -> datetime:
    try:
        return now + parse_duration(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as exc:
        raise ReleaseError(f"{text!r} is no time; write 2026-03-01T12:00+00:00, or 4h from now") from exc
    if moment.tzinfo is None:
        raise ReleaseError(f"{text!r} names no zone; write for example 2026-03-01T12:00+00:00")
    return moment


def _review(setup: _Setup, options: argparse.Namespace) -> dict[str, Any]:
    request = _request(options, options.note)
    key = _ring(setup).check(tokens(options.key_file, 1)[0], "approve", request.at)
    decision = review_emergency(setup.store, setup.usecase.name, setup.model, options.operation, key, request)
    return {"decision": decision.id, **decision.payload}


def _ring(setup: _Setup) -> KeyRing:
    return KeyRing.load(setup.settings.keys_file)


def _recover(setup: _Setup, options: argparse.Namespace) -> dict[str, Any]:
    if options.preview:
        operations = setup.store.journal.unfinished(setup.model)
    else:
        operations = recover(setup.context, options.actor, datetime.now(UTC))
    return {"operations": [f"{o.kind} to {o.to_version}: {o.state}" for o in operations]}


def _file_verdict(setup: _Setup, file: Path) -> Verdict:
    """A verdict from a file, which anybody can write: only the newest comparison that is stored here counts."""
    verdict = _read_verdict(file)
    if _last_verdict(setup).digest != verdict.digest:
        raise ReleaseError(
            f"{file} is not the newest stored comparison of {setup.usecase.name}: it was changed, is out of date or "
            "was never stored here. Run incumbent compare, or promote without --verdict"
        )
    return verdict


def _read_verdict(file: Path) -> Verdict:
    try:
        return _verdict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError) as exc:
        raise ReleaseError(f"{file} holds no verdict: {exc}") from exc


def _last_verdict(setup: _Setup) -> Verdict:
    report = setup.store.reports.latest(setup.usecase.name, "comparison")
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


if __name__ == "__main__":
    sys.exit(main())
