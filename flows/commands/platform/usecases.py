"""``usecase``: the use cases of a running house: list, add, rename, retire."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from flows.commands.common import Reply, common_arguments
from monitoring.core.text_table import table

if TYPE_CHECKING:
    from flows.workspace.installation import Home
    from flows.workspace.roster import Roster

NO_STACK = "no stack is up, and its Prefect server holds the schedules: start it with `incumbent up`"


def configure(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the sub-commands."""
    words = parser.add_subparsers(metavar="WHAT", dest="what", required=True)
    common_arguments(words.add_parser("list", help="the use cases of this house, and where each answers"))
    add = words.add_parser("add", help="check a use case, and run it beside the others from now on")
    add.add_argument("file", help="a use-case file or a built-in name")
    rename = words.add_parser("rename", help="give a use case another name; its history and the old name stay good")
    rename.add_argument("old", help="its name")
    rename.add_argument("new", help="the name that is wanted")
    retire = words.add_parser("retire", help="stop a use case: schedules off, service stopped, data kept")
    retire.add_argument("name", help="its name")
    for parser_ in (add, rename, retire):
        parser_.add_argument("--yes", action="store_true", help="do it; without it only what would be done is shown")
        parser_.add_argument("--reason", default="", help="for the chain of decisions")
        common_arguments(parser_)


def run(args: argparse.Namespace) -> Reply:
    """Run one sub-command."""
    from flows.commands.common import enter_home

    home = enter_home(args)
    return {"list": _list, "add": _add, "rename": _rename, "retire": _retire}[args.what](home, args)


def _list(home: Home, args: argparse.Namespace) -> Reply:
    from flows.stack.state_file import read_state

    roster = _whole_roster(home)
    urls, state_now = home.known_addresses(), read_state(home.addresses)
    rows, data = [], {}
    for name, member in roster.usecases.items():
        address = "" if state_now is None else urls.get(state_now.part_of("service", name), "")
        state = f"retired since {member.retired:%Y-%m-%d %H:%M} UTC" if member.retired else _state(address)
        shown = roster.name_of(name)
        rows.append((shown, name, state, "" if member.retired else address, member.reference))
        data[name] = {"name": shown, "state": state, "service": None if member.retired else address,
                      "reference": member.reference}  # fmt: skip
    return Reply({"usecases": data}, table(rows, ("use case", "id", "state", "service", "file")))


def _add(home: Home, args: argparse.Namespace) -> Reply:
    from bentos.check.usecase import check_usecase
    from bentos.usecase.loading import load_usecase
    from flows.errors import FlowRefused
    from flows.steps.operations.usecase_changes import note_usecase, paused_at_retirement, resume_deployments
    from flows.workspace.installation import usecase_reference
    from flows.workspace.roster import Member, write_roster
    from monitoring.exporter.catalogue import ADDED

    reference = usecase_reference(args.file)
    usecase = load_usecase(reference)
    report = check_usecase(usecase)
    if not report.passed:
        raise FlowRefused(f"{reference} cannot be run yet; `incumbent check {args.file}` says why")
    roster = _whole_roster(home)
    roster.require_free(usecase.name)
    before = roster.usecases.get(usecase.name)
    if before is not None and before.retired is None:
        raise FlowRefused(f"{usecase.name} already runs in this house, from {before.reference}")
    what = [f"runs {usecase.name} from {reference} beside {', '.join(roster.active) or 'no other use case'}"]
    what.append("starts its service, scribe and notifier, and deploys its flows" if home.known_addresses()
                else "starts nothing now: no stack is up; the next `incumbent up` starts it")  # fmt: skip
    if before is not None:
        if not home.known_addresses():
            raise FlowRefused(
                "no stack is up, and its Prefect server holds the schedules: start it with `incumbent up`"
            )
        what += ["schedules and data from before it retired are there again"]
    if not args.yes:
        return _preview(usecase.name, what)
    if before is not None:
        resume_deployments(home, usecase.name, paused_at_retirement(reference))
    note_usecase(reference, ADDED, args.reason)
    write_roster(home, roster.put(usecase.name, Member(reference)))
    return _done(usecase.name, what)


def _retire(home: Home, args: argparse.Namespace) -> Reply:
    from flows.errors import FlowRefused
    from flows.steps.operations.usecase_changes import note_usecase, pause_deployments
    from flows.workspace.roster import Member, write_roster
    from monitoring.exporter.catalogue import RETIRED

    roster = _whole_roster(home)
    usecase = roster.id_of(args.name) or args.name
    member = roster.usecases.get(usecase)
    if member is None or member.retired is not None:
        known = ", ".join(map(roster.name_of, roster.active)) or "none"
        raise FlowRefused(f"{args.name} does not run in this house; those that do: {known}")
    if not home.known_addresses():
        raise FlowRefused(NO_STACK)
    what = [
        "pauses its deployments: no schedule starts a run",
        "stops its service, scribe and notifier; what is still in the spool is shipped when it runs again",
        "keeps models, log, labels, decisions and files; `incumbent usecase add` brings it back",
        "ends its metrics and alerts",
    ]
    if not args.yes:
        return _preview(args.name, what)
    paused = pause_deployments(home, usecase)
    note_usecase(member.reference, RETIRED, args.reason, paused)
    now = datetime.now(UTC).replace(microsecond=0)
    write_roster(home, roster.put(usecase, Member(member.reference, now)))
    return _done(args.name, what, deployments=paused)


def _rename(home: Home, args: argparse.Namespace) -> Reply:
    from flows.errors import FlowRefused
    from flows.steps.operations.usecase_changes import note_renaming
    from flows.workspace.roster import read_roster, write_roster

    whole = _whole_roster(home)
    usecase = whole.id_of(args.old)
    if usecase is None or usecase not in whole.usecases:
        raise FlowRefused(f"{args.old} is no use case of this house; those that are: {', '.join(whole.usecases)}")
    reference, before = whole.usecases[usecase].reference, whole.name_of(usecase)
    whole.rename(usecase, args.new, reference)  # refused here, before anything is written
    carried = _carried(home, usecase)
    what = [
        f"{before} is named {args.new} from now on; {before} still leads to it, and is told so",
        "status, notices and `usecase list` show the new name; nothing is stopped, started or moved",
        f"keeps its id {usecase}, under which its history stands: {', '.join(carried.values())}",
    ]
    if not args.yes:
        return _preview(before, what)
    note_renaming(reference, before, args.new, args.reason)
    write_roster(home, read_roster(home).rename(usecase, args.new, reference))
    return _done(before, what, id=usecase, renamed=args.new, carried=carried)


def _carried(home: Home, usecase: str) -> dict[str, str]:
    """What carries the id of a use case for good."""
    settings = home.settings
    return {
        "model": f"model {settings.model_name(usecase)}",
        "deployments": f"deployments {settings.deployment_name(usecase, '*')}",
        "rows": f"rows and lines of the chain with usecase = {usecase}",
        "labels": f'metrics with usecase="{usecase}"',
    }


def _whole_roster(home: Home) -> Roster:
    """The roster, with the one use case of the settings where the house has no file."""
    from flows.workspace.roster import Member, Roster, named_usecases, read_roster

    roster = read_roster(home)
    if roster.usecases:
        return roster
    one = {name: Member(ref) for name, ref in named_usecases([home.settings.usecase]).items()}
    return Roster(one, roster.names)


def _state(address: str) -> str:
    from flows.workspace.processes import answers

    if not address:
        return "not up"
    if answers(f"{address}/readyz"):
        return "answers"
    return "up, nobody in office" if answers(f"{address}/livez") else "does not answer"


def _preview(name: str, what: list[str]) -> Reply:
    lines = "\n".join(f"  {line}" for line in what)
    return Reply({"usecase": name, "done": False, "steps": what}, f"would do for {name}:\n{lines}\nadd --yes to do it")


def _done(name: str, what: list[str], **more: Any) -> Reply:
    lines = "\n".join(f"  {line}" for line in what)
    return Reply({"usecase": name, "done": True, "steps": what, **more}, f"done for {name}:\n{lines}")
