"""``approve`` and ``threshold``: what needs a person's key. Keys come from files, the environment or a prompt."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from flows.commands.common import CommandResult, UsageRefused, common_arguments, enter_home
from monitoring.core.text_table import table

if TYPE_CHECKING:
    from bentos.keys import Key
    from flows.workspace.workspace import Workspace


def configure(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of one command."""
    common_arguments(parser)
    parser.add_argument("--key-file", action="append", default=[], metavar="FILE", help="a file with one person's key")
    if name == "approve":
        parser.add_argument("request", nargs="?", default="", help="id of the request; the newest by default")
        parser.add_argument("--answer", choices=("approve", "reject"), help="answer here and now, without the form")
        parser.add_argument("--code", action="store_true", help="give a one-time code for the form in the Prefect UI")
        parser.add_argument("--note", default="", help="why, in a few words; it is kept")


def run(args: argparse.Namespace) -> CommandResult:
    """Run the chosen command."""
    enter_home(args)
    from flows.workspace.workspace import open_workspace

    workspace = open_workspace(args.usecase)
    if not (args.code or args.answer):
        return _list(workspace)
    if args.code and args.answer:
        raise UsageRefused("--code is for the form, --answer answers without it; say one of them")
    return _code(workspace, args) if args.code else _answer(workspace, args)


def _list(workspace: Workspace) -> CommandResult:
    from bentos.promotion.approval import list_requests
    from flows.workspace.clock import machine_now

    now = machine_now()
    entries = [
        {"id": r.id, "state": r.state(now), "challenger": r.verdict.challenger, "champion": r.verdict.champion,
         "proposer": r.proposer, "due": r.due.isoformat(), "verdict": r.verdict.digest}
        for r in list_requests(workspace.store, workspace.usecase.name, workspace.model)
    ]  # fmt: skip
    rows = [(r["id"], r["state"], r["challenger"], r["proposer"], r["due"]) for r in entries]
    text = table(rows, ("request", "state", "challenger", "proposed by", "due"))
    return CommandResult({"requests": entries}, text or "nothing waits for approval")


def _code(workspace: Workspace, args: argparse.Namespace) -> CommandResult:
    from bentos.promotion.approval import CODE_LIFE, find_request, issue_code
    from flows.workspace.clock import machine_now

    request = find_request(workspace.store, workspace.usecase.name, workspace.model, args.request)
    now = machine_now()
    code = issue_code(workspace.store, workspace.usecase.name, request, _key(workspace, args), now)
    data = {"request": request.id, "code": code, "expires": (now + CODE_LIFE).isoformat()}
    return CommandResult(data, f"{code}\n\ngood once, for request {request.id}, until {data['expires']}")


def _answer(workspace: Workspace, args: argparse.Namespace) -> CommandResult:
    from bentos.promotion.approval import answer_directly, find_request
    from flows.workspace.clock import machine_now

    request = find_request(workspace.store, workspace.usecase.name, workspace.model, args.request)
    key = _key(workspace, args)
    decision = answer_directly(
        workspace.store, workspace.usecase.name, request, args.answer, key, args.note, machine_now()
    )
    answer = decision.kind.removeprefix("approval.")
    return CommandResult(
        {"request": request.id, "answer": answer, "owner": key.owner, "decision": decision.id},
        f"{request.verdict.challenger}: {answer} by {key.owner}; decision {decision.id}",
    )


def _key(workspace: Workspace, args: argparse.Namespace) -> Key:
    from bentos.keys import KeyRing
    from bentos.keys.prompt import tokens
    from flows.workspace.clock import machine_now

    return KeyRing.load(workspace.settings.keys_file).check(tokens(args.key_file, 1)[0], "approve", machine_now())
