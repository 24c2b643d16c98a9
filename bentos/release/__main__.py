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
from typing import TYPE_CHECKING, Any

from bentos.errors import IncumbentError, ReleaseError
from bentos.keys import KeyRing
from bentos.keys.prompt import tokens
from bentos.promotion.promote import default_actor, promote, reconcile, recover, rollback
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

if TYPE_CHECKING:
    from bentos.registry.ports import ModelRegistry


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
    up.add_argument("--emergency", action="store_true", help="without a verdict, with the keys of two people")
    up.add_argument("--until", help="of an emergency: ISO time, or 4h from now; then it is rolled back by itself")
    _key_files(up)
    up.set_defaults(run=_promote)
    mend = commands.add_parser("recover", parents=[shared, acting], help="end what a dead process left behind")
    mend.set_defaults(run=_recover)
    agree = commands.add_parser("reconcile", parents=[shared, acting], help="make the aliases those of the journal")
    agree.add_argument("--reason", default="", help="why they differed, if it is known")
    agree.set_defaults(run=_reconcile)
    edge = commands.add_parser("threshold", parents=[shared, acting], help="another threshold for a while, by two keys")
    edge.add_argument("--set", type=float, dest="value", help="calibrated scores at or above it are flagged")
    edge.add_argument("--until", help="ISO time, or a duration from now such as 4h; the promoted one holds again then")
    edge.add_argument("--lift", action="store_true", help="end the order now; one key is enough")
    edge.add_argument("--reason", required=True, help="why, in a few words")
    _key_files(edge)
    edge.set_defaults(run=_threshold)
    look = commands.add_parser("review", parents=[shared, acting], help="note that you reviewed an emergency promotion")
    look.add_argument("operation", help="the first digits of its operation id; see status")
    look.add_argument("--note", required=True, help="what you found")
    _key_files(look)
    look.set_defaults(run=_review)
    return parser


def _key_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--key-file", action="append", default=[], metavar="FILE", help="a file with one person's key; repeat for two"
    )


def _open(reference: str) -> _Place:
    from bentos.registry.mlflow import open_registry

    settings = read_settings()
    usecase = load_usecase(reference or settings.usecase)
    return _Place(settings, usecase, open_registry(settings), open_store(settings.log_url))


def _status(place: _Place, _options: argparse.Namespace) -> dict[str, Any]:
    return status(place.registry, place.store, place.usecase, place.model, datetime.now(UTC))


def _rollback(place: _Place, options: argparse.Namespace) -> dict[str, Any]:
    now = datetime.now(UTC)
    done = rollback(
        place.registry, place.store, place.model, place.usecase, options.actor, options.reason, now,
        preview=options.preview, wait_seconds=options.wait,
    )  # fmt: skip
    if options.preview:
        return asdict(done)
    listed = affected_by_rollback(
        place.registry, place.store, place.settings, place.usecase, place.model, done.from_version, done.to_version,
        done.op_id, options.actor, now,
    )  # fmt: skip
    said = {} if listed is None else {"affected": listed.to_json()} if options.json else {"affected": listed.summary}
    return asdict(done) | said


def _promote(place: _Place, options: argparse.Namespace) -> dict[str, Any]:
    if options.emergency:
        return _promote_emergency(place, options)
    verdict = _file_verdict(place, options.verdict) if options.verdict else _last_verdict(place)
    done = promote(
        place.registry, place.store, verdict, usecase=place.usecase, actor=options.actor, now=datetime.now(UTC),
        reason=options.reason, preview=options.preview, wait_seconds=options.wait,
    )  # fmt: skip
    return asdict(done)


def _promote_emergency(place: _Place, options: argparse.Namespace) -> dict[str, Any]:
    now = datetime.now(UTC)
    keys = two_people(_ring(place), tokens(options.key_file, 2), now)
    to = place.registry.resolve(place.model, "challenger")
    done = promote_emergency(
        place.registry, place.store, to, keys, usecase=place.usecase, actor=options.actor, reason=options.reason,
        now=now, until=end_of(options.until, now), preview=options.preview, wait_seconds=options.wait,
    )  # fmt: skip
    return asdict(done)


def _reconcile(place: _Place, options: argparse.Namespace) -> dict[str, Any]:
    steps = reconcile(
        place.registry, place.store, place.model, usecase=place.usecase, actor=options.actor,
        now=datetime.now(UTC), reason=options.reason,
    )  # fmt: skip
    return {"steps": steps}


def _threshold(place: _Place, options: argparse.Namespace) -> dict[str, Any]:
    return threshold_command(
        place.store, place.usecase, place.model, _ring(place), value=options.value, until=options.until,
        lift=options.lift, reason=options.reason, files=options.key_file, actor=options.actor,
    )  # fmt: skip


def threshold_command(
    store: Store,
    usecase: UseCase,
    model: str,
    ring: KeyRing,
    *,
    value: float | None,
    until: str | None,
    lift: bool,
    reason: str,
    files: Sequence[str],
    actor: str,
) -> dict[str, Any]:
    """Order or lift a threshold with keys from files, the environment or a prompt; what was recorded."""
    now = datetime.now(UTC)
    if lift:
        key = ring.check(tokens(files, 1)[0], "approve", now)
        made = lift_threshold(store, usecase, model, key, actor=actor, reason=reason, now=now)
    else:
        if value is None or until is None:
            raise ReleaseError("say --set X and --until T, or --lift")
        keys = two_people(ring, tokens(files, 2), now)
        made = order_threshold(
            store, usecase, model, value, _moment(until, now), keys, actor=actor, reason=reason, now=now
        )
    return {"decision": made.id, "seq": made.seq, "kind": made.kind, **made.payload}


def end_of(until: str | None, now: datetime) -> datetime | None:
    """When an emergency ends, as a person wrote it; ``ReleaseError`` for what is no time."""
    return None if until is None else _moment(until, now)


def _moment(text: str, now: datetime) -> datetime:
    try:
        return now + parse_duration(text)
    except ValueError:
        pass
    try:
        found = datetime.fromisoformat(text)
    except ValueError as exc:
        raise ReleaseError(f"{text!r} is no time; write 2026-03-01T12:00+00:00, or 4h from now") from exc
    if found.tzinfo is None:
        raise ReleaseError(f"{text!r} names no zone; write for example 2026-03-01T12:00+00:00")
    return found


def _review(place: _Place, options: argparse.Namespace) -> dict[str, Any]:
    now = datetime.now(UTC)
    key = _ring(place).check(tokens(options.key_file, 1)[0], "approve", now)
    made = review_emergency(
        place.store, place.usecase.name, place.model, options.operation, key,
        actor=options.actor, note=options.note, now=now,
    )  # fmt: skip
    return {"decision": made.id, **made.payload}


def _ring(place: _Place) -> KeyRing:
    return KeyRing.load(place.settings.keys_file)


def _recover(place: _Place, options: argparse.Namespace) -> dict[str, Any]:
    if options.preview:
        left = place.store.journal.unfinished(place.model)
    else:
        left = recover(
            place.registry, place.store, place.model, usecase=place.usecase, actor=options.actor, now=datetime.now(UTC)
        )
    return {"operations": [f"{o.kind} to {o.to_version}: {o.state}" for o in left]}


def _file_verdict(place: _Place, file: Path) -> Verdict:
    """A verdict from a file, which anybody can write: only the newest comparison that is stored here counts."""
    verdict = _read_verdict(file)
    if _last_verdict(place).digest != verdict.digest:
        raise ReleaseError(
            f"{file} is not the newest stored comparison of {place.usecase.name}: it was changed, is out of date or "
            "was never stored here. Run incumbent compare, or promote without --verdict"
        )
    return verdict


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


if __name__ == "__main__":
    sys.exit(main())
