"""``audit``: what was decided, whether the record is whole, and what it rests on."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.commands.common import Reply, UsageRefused, common_arguments, enter_home, instant
from monitoring.core.text_table import table

if TYPE_CHECKING:
    from flows.workspace.workspace import House

_EVER = (datetime(1970, 1, 2, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC))


def configure(_: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of each action."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    lines = {
        "show": "list the decisions, oldest first",
        "verify": "recompute the chain of decisions",
        "export": "write the whole chain to a file, one JSON object a line",
        "roles": "which version held which role when",
        "replay": "judge a verdict again from its kept evidence, and compare to the last bit",
        "event": "one page about one answer, for the complaint desk",
    }
    subs = {action: actions.add_parser(action, help=line) for action, line in lines.items()}
    for sub in subs.values():
        common_arguments(sub)
    subs["show"].add_argument("--limit", type=int, default=50, help="newest rows to show; 50 by default")
    subs["verify"].add_argument("--file", metavar="FILE", help="an export, instead of this installation's chain")
    subs["verify"].add_argument(
        "--holds", metavar="HASH", help="a last hash that was noted earlier; it must still be in the chain"
    )
    subs["export"].add_argument("--out", required=True, metavar="FILE", help="a .jsonl file to write")
    when = subs["roles"].add_mutually_exclusive_group()
    when.add_argument("--at", metavar="TIME", help="business time; everything ever, without it")
    when.add_argument("--between", nargs=2, metavar=("FROM", "TO"), help="a span of business time")
    subs["roles"].add_argument("--role", choices=("champion", "challenger", "candidate", "previous"))
    subs["replay"].add_argument("id", help="number or id of a decision, or digest of a verdict; see audit show")
    subs["event"].add_argument("id", help="the event id as the client sent it")
    subs["event"].add_argument("--html", metavar="FILE", help="also write the page as HTML")


def run(args: argparse.Namespace) -> Reply:
    """Run the chosen action."""
    if args.action == "verify" and args.file:
        return _verify_file(Path(args.file), args.holds)
    enter_home(args)
    from flows.workspace.workspace import open_house

    actions: dict[str, Callable[[House, argparse.Namespace], Reply]] = {
        "show": _show, "verify": _verify, "export": _export, "roles": _roles, "replay": _replay, "event": _event,
    }  # fmt: skip
    return actions[args.action](open_house(args.usecase), args)


def _show(house: House, args: argparse.Namespace) -> Reply:
    decisions = house.store.decisions.list(house.usecase.name, limit=10_000)[-args.limit :]
    data = [
        {"seq": d.seq, "id": d.id, "kind": d.kind, "actor": d.actor, "at": d.at, "recorded_at": d.recorded_at,
         "payload": d.payload}
        for d in decisions
    ]  # fmt: skip
    rows = [(d.seq, d.id, f"{d.at:%Y-%m-%d %H:%M}", d.kind, d.actor, what(d.payload)) for d in decisions]
    headers = ("seq", "id", "business time", "kind", "actor", "what")
    return Reply({"decisions": data}, table(rows, headers) or "none yet")


def _verify(house: House, args: argparse.Namespace) -> Reply:
    from monitoring.store.decisions.hash_chain import stored_rows

    lost = _lost(args.holds, stored_rows(house.store.database)) if args.holds else []
    return _said([*house.store.decisions.verify(), *lost])


def _lost(noted: str, rows: list[Any]) -> list[str]:
    """What is wrong where a hash that was noted is not there: a chain only grows, so it keeps every hash."""
    if any(row["hash"] == noted for row in rows):
        return []
    return [f"no decision has the hash {noted}: the chain was cut off before it, or written anew"]


def _verify_file(file: Path, holds: str | None) -> Reply:
    from monitoring.store.decisions.hash_chain import problems_of

    try:
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        return _said([*problems_of(rows), *(_lost(holds, rows) if holds else [])])
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise UsageRefused(f"{file} is no export of the chain ({type(exc).__name__})") from exc


def _said(problems: list[str]) -> Reply:
    text = "\n".join(problems) if problems else "every row is as it was written"
    return Reply({"problems": problems}, text, 1 if problems else 0)


def _export(house: House, args: argparse.Namespace) -> Reply:
    from monitoring.core.hashing import canonical_json
    from monitoring.reports.html import write_text
    from monitoring.store.decisions.hash_chain import stored_rows

    rows = stored_rows(house.store.database)
    file = write_text(Path(args.out), "".join(canonical_json(row).decode() + "\n" for row in rows))
    last = rows[-1]["hash"] if rows else None
    data = {"file": str(file.absolute()), "decisions": len(rows), "last_hash": last}
    return Reply(data, f"{len(rows)} decisions in {file}; last hash {last}; check with: incumbent audit verify --file")


def _roles(house: House, args: argparse.Namespace) -> Reply:
    from monitoring.store.decisions.role_terms import terms_between

    start, end = _EVER
    if args.at:
        start = end = _moment(args.at, house)
    elif args.between:
        start, end = (_moment(text, house) for text in args.between)
    found = terms_between(house.store.database, house.model, start, end, args.role)
    rows = [
        (t.role, t.version, f"{t.since:%Y-%m-%d %H:%M:%S}", f"{t.until:%Y-%m-%d %H:%M:%S}" if t.until else "now",
         t.decided_as, t.decided_by, t.decision)
        for t in found
    ]  # fmt: skip
    headers = ("role", "version", "since (UTC)", "until", "decided as", "by", "seq")
    return Reply({"model": house.model, "terms": [t.to_json() for t in found]}, table(rows, headers) or "nobody")


def _moment(text: str, house: House) -> datetime:
    found = instant(text, house.usecase)
    assert found is not None
    return found


def _replay(house: House, args: argparse.Namespace) -> Reply:
    from flows.steps.comparison.replay_verdict import find_verdict, replay

    decision = find_verdict(house.store, house.usecase.name, args.id)
    found = replay(house.store, [house.evidence, house.snapshots], house.usecase, decision)
    rows = [("decision", f"{found.decision} (number {found.seq})"), ("as of", found.as_of), ("said", found.outcome),
            ("says now", found.outcome_again), ("verdict", found.digest), ("verdict now", found.digest_again),
            ("evidence", found.evidence), ("plan", found.plan_hash),
            ("identical", found.answer),
            *[("differs", one) for one in found.differences]]  # fmt: skip
    return Reply(found.to_json(), table(rows), 0 if found.identical else 1)


def _event(house: House, args: argparse.Namespace) -> Reply:
    from flows.steps.reports.complaint_page import event_page, write_event_page

    page = event_page(house.store, house.usecase, args.id, house.load_content)
    parts = [f"{title}\n{table(rows)}" for title, rows in page.sections() if rows]
    if args.html:
        parts.append(f"page: {write_event_page(Path(args.html), page)}")
    return Reply(page.to_json(), "\n\n".join(parts))


def what(payload: Any) -> str:
    """A decision in a few words, for a list."""
    told = [
        "event", "share", "work", "role", "version", "from_version", "to_version", "state", "owner", "outcome",
        "review_by", "reason",
    ]  # fmt: skip
    said = payload
    if isinstance(verdict := payload.get("verdict"), dict):
        names = {name: verdict.get(name) for name in ("challenger", "champion")}
        reason = next(iter(verdict.get("reasons", ())), "")
        said = {"outcome": verdict.get("outcome"), "reason": reason} | names | payload
        told = ["challenger", "outcome", "reason"]
    words = [f"{key}={said[key]}" for key in told if said.get(key)]
    if payload.get("data_digest"):
        words.insert(-1 if payload.get("reason") else len(words), f"data={payload['data_digest'][:12]}")
    return " ".join(words)[:80]
