"""``audit``: what was decided, whether the record is whole, and what it rests on."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.commands.common import CommandResult, UsageRefused, common_arguments, enter_home, parse_instant
from monitoring.core.text_table import table

if TYPE_CHECKING:
    from flows.workspace.workspace import Workspace

_ALL_TIME = (datetime(1970, 1, 2, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC))


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


def run(args: argparse.Namespace) -> CommandResult:
    """Run the chosen action."""
    if args.action == "verify" and args.file:
        return _verify_file(Path(args.file), args.holds)
    enter_home(args)
    from flows.workspace.workspace import open_workspace

    actions: dict[str, Callable[[Workspace, argparse.Namespace], CommandResult]] = {
        "show": _show, "verify": _verify, "export": _export, "roles": _roles, "replay": _replay, "event": _event,
    }  # fmt: skip
    return actions[args.action](open_workspace(args.usecase), args)


def _show(workspace: Workspace, args: argparse.Namespace) -> CommandResult:
    decisions = workspace.store.decisions.list(workspace.usecase.name, limit=10_000)[-args.limit :]
    data = [
        {"seq": d.seq, "id": d.id, "kind": d.kind, "actor": d.actor, "at": d.at, "recorded_at": d.recorded_at,
         "payload": d.payload}
        for d in decisions
    ]  # fmt: skip
    rows = [(d.seq, d.id, f"{d.at:%Y-%m-%d %H:%M}", d.kind, d.actor, payload_text(d.payload)) for d in decisions]
    headers = ("seq", "id", "business time", "kind", "actor", "what")
    return CommandResult({"decisions": data}, table(rows, headers) or "none yet")


def _verify(workspace: Workspace, args: argparse.Namespace) -> CommandResult:
    from monitoring.store.decisions.hash_chain import stored_rows

    missing = _missing_hash(args.holds, stored_rows(workspace.store.database)) if args.holds else []
    return _problems_reply([*workspace.store.decisions.verify(), *missing])


def _missing_hash(chain_hash: str, rows: list[Any]) -> list[str]:
    """What is wrong where a hash that was noted is not there: a chain only grows, so it keeps every hash."""
    if any(row["hash"] == chain_hash for row in rows):
        return []
    return [f"no decision has the hash {chain_hash}: the chain was cut off before it, or written anew"]


def _verify_file(file: Path, holds: str | None) -> CommandResult:
    from monitoring.store.decisions.hash_chain import export_problems

    try:
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        return _problems_reply([*export_problems(rows), *(_missing_hash(holds, rows) if holds else [])])
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise UsageRefused(f"{file} is no export of the chain ({type(exc).__name__})") from exc


def _problems_reply(problems: list[str]) -> CommandResult:
    text = "\n".join(problems) if problems else "every row is as it was written"
    return CommandResult({"problems": problems}, text, 1 if problems else 0)


def _export(workspace: Workspace, args: argparse.Namespace) -> CommandResult:
    from monitoring.core.hashing import canonical_json
    from monitoring.reports.html import write_text
    from monitoring.store.decisions.hash_chain import stored_rows

    rows = stored_rows(workspace.store.database)
    file = write_text(Path(args.out), "".join(canonical_json(row).decode() + "\n" for row in rows))
    last = rows[-1]["hash"] if rows else None
    data = {"file": str(file.absolute()), "decisions": len(rows), "last_hash": last}
    return CommandResult(
        data, f"{len(rows)} decisions in {file}; last hash {last}; check with: incumbent audit verify --file"
    )


def _roles(workspace: Workspace, args: argparse.Namespace) -> CommandResult:
    from monitoring.store.decisions.role_terms import terms_between

    start, end = _ALL_TIME
    if args.at:
        start = end = _moment(args.at, workspace)
    elif args.between:
        start, end = (_moment(text, workspace) for text in args.between)
    terms = terms_between(workspace.store.database, workspace.model, start, end, args.role)
    rows = [
        (t.role, t.version, f"{t.since:%Y-%m-%d %H:%M:%S}", f"{t.until:%Y-%m-%d %H:%M:%S}" if t.until else "now",
         t.decided_as, t.decided_by, t.decision)
        for t in terms
    ]  # fmt: skip
    headers = ("role", "version", "since (UTC)", "until", "decided as", "by", "seq")
    return CommandResult(
        {"model": workspace.model, "terms": [t.to_json() for t in terms]}, table(rows, headers) or "nobody"
    )


def _moment(text: str, workspace: Workspace) -> datetime:
    moment = parse_instant(text, workspace.usecase)
    assert moment is not None
    return moment


def _replay(workspace: Workspace, args: argparse.Namespace) -> CommandResult:
    from flows.steps.comparison.replay_verdict import find_verdict, replay_decision

    decision = find_verdict(workspace.store, workspace.usecase.name, args.id)
    result = replay_decision(workspace.store, [workspace.evidence, workspace.snapshots], workspace.usecase, decision)
    rows = [("decision", f"{result.decision} (number {result.seq})"), ("as of", result.as_of), ("said", result.outcome),
            ("says now", result.outcome_again), ("verdict", result.digest), ("verdict now", result.digest_again),
            ("evidence", result.evidence), ("plan", result.plan_hash),
            ("identical", result.answer),
            *[("differs", difference) for difference in result.differences]]  # fmt: skip
    return CommandResult(result.to_json(), table(rows), 0 if result.identical else 1)


def _event(workspace: Workspace, args: argparse.Namespace) -> CommandResult:
    from flows.steps.reports.complaint_page import build_event_page, write_event_page

    page = build_event_page(workspace.store, workspace.usecase, args.id, workspace.load_content)
    parts = [f"{title}\n{table(rows)}" for title, rows in page.sections() if rows]
    if args.html:
        parts.append(f"page: {write_event_page(Path(args.html), page)}")
    return CommandResult(page.to_json(), "\n\n".join(parts))


def payload_text(payload: Any) -> str:
    """A decision in a few words, for a list."""
    keys = [
        "event", "share", "work", "role", "version", "from_version", "to_version", "state", "owner", "outcome",
        "review_by", "reason",
    ]  # fmt: skip
    fields = payload
    if isinstance(verdict := payload.get("verdict"), dict):
        names = {name: verdict.get(name) for name in ("challenger", "champion")}
        reason = next(iter(verdict.get("reasons", ())), "")
        fields = {"outcome": verdict.get("outcome"), "reason": reason} | names | payload
        keys = ["challenger", "outcome", "reason"]
    words = [f"{key}={fields[key]}" for key in keys if fields.get(key)]
    if payload.get("data_digest"):
        words.insert(-1 if payload.get("reason") else len(words), f"data={payload['data_digest'][:12]}")
    return " ".join(words)[:80]
