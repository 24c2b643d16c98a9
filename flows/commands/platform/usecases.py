"""``usecase``: the use cases of a running home: list, add, rename, retire."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from flows.commands.common import CommandResult, common_arguments
from monitoring.core.text_table import table

if TYPE_CHECKING:
    from flows.workspace.installation import Home
    from flows.workspace.roster import Roster

NO_STACK = "no stack is up, and its Prefect server holds the schedules: start it with `incumbent up`"


def configure(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the sub-commands."""
    actions = parser.add_subparsers(metavar="WHAT", dest="what", required=True)
    common_arguments(actions.add_parser("list", help="the use cases of this home, and where each answers"))
    add = actions.add_parser("add", help="check a use case, and run it beside the others from now on")
    add.add_argument("file", help="a use-case file or a built-in name")
    rename = actions.add_parser("rename", help="give a use case another name; its history and the old name stay good")
    rename.add_argument("old", help="its name")
    rename.add_argument("new", help="the name that is wanted")
    retire = actions.add_parser("retire", help="stop a use case: schedules off, service stopped, data kept")
    retire.add_argument("name", help="its name")
    for action_parser in (add, rename, retire):
        action_parser.add_argument(
            "--yes", action="store_true", help="do it; without it only what would be done is shown"
        )
        action_parser.add_argument("--reason", default="", help="for the chain of decisions")
        common_arguments(action_parser)


def run(args: argparse.Namespace) -> CommandResult:
    """Run one sub-command."""
    from flows.commands.common import enter_home

    home = enter_home(args)
    return {"list": _list, "add": _add, "rename": _rename, "retire": _retire}[args.what](home, args)


def _list(home: Home, args: argparse.Namespace) -> CommandResult:
    from flows.stack.state_file import read_state

    roster = _whole_roster(home)
    urls, state_now = home.live_addresses(), read_state(home.addresses)
    rows, data = [], {}
    for name, member in roster.usecases.items():
        address = "" if state_now is None else urls.get(state_now.part_of("service", name), "")
        state = f"retired since {member.retired:%Y-%m-%d %H:%M} UTC" if member.retired else _state(address)
        display_name = roster.name_of(name)
        rows.append((display_name, name, state, "" if member.retired else address, member.reference))
        data[name] = {"name": display_name, "state": state, "service": None if member.retired else address,
                      "reference": member.reference}  # fmt: skip
    return CommandResult({"usecases": data}, table(rows, ("use case", "id", "state", "service", "file")))


def _add(home: Home, args: argparse.Namespace) -> CommandResult:
    from bentos.check.usecase import check_usecase
    from bentos.usecase.loading import load_usecase
    from flows.errors import FlowRefused
    from flows.steps.operations.usecase_changes import paused_at_retirement, record_usecase, resume_deployments
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
    member = roster.usecases.get(usecase.name)
    if member is not None and member.retired is None:
        raise FlowRefused(f"{usecase.name} already runs in this home, from {member.reference}")
    steps = [f"runs {usecase.name} from {reference} beside {', '.join(roster.active) or 'no other use case'}"]
    steps.append("starts its service, scribe and notifier, and deploys its flows" if home.live_addresses()
                else "starts nothing now: no stack is up; the next `incumbent up` starts it")  # fmt: skip
    if member is not None:
        if not home.live_addresses():
            raise FlowRefused(
                "no stack is up, and its Prefect server holds the schedules: start it with `incumbent up`"
            )
        steps += ["schedules and data from before it retired are there again"]
    if not args.yes:
        return _preview(usecase.name, steps)
    if member is not None:
        resume_deployments(home, usecase.name, paused_at_retirement(reference))
    record_usecase(reference, ADDED, args.reason)
    write_roster(home, roster.put(usecase.name, Member(reference)))
    return _done(usecase.name, steps)


def _retire(home: Home, args: argparse.Namespace) -> CommandResult:
    from flows.errors import FlowRefused
    from flows.steps.operations.usecase_changes import pause_deployments, record_usecase
    from flows.workspace.roster import Member, write_roster
    from monitoring.exporter.catalogue import RETIRED

    roster = _whole_roster(home)
    usecase = roster.id_of(args.name) or args.name
    member = roster.usecases.get(usecase)
    if member is None or member.retired is not None:
        active_names = ", ".join(map(roster.name_of, roster.active)) or "none"
        raise FlowRefused(f"{args.name} does not run in this home; those that do: {active_names}")
    if not home.live_addresses():
        raise FlowRefused(NO_STACK)
    steps = [
        "pauses its deployments: no schedule starts a run",
        "stops its service, scribe and notifier; what is still in the spool is shipped when it runs again",
        "keeps models, log, labels, decisions and files; `incumbent usecase add` brings it back",
        "ends its metrics and alerts",
    ]
    if not args.yes:
        return _preview(args.name, steps)
    deployments = pause_deployments(home, usecase)
    record_usecase(member.reference, RETIRED, args.reason, deployments)
    now = datetime.now(UTC).replace(microsecond=0)
    write_roster(home, roster.put(usecase, Member(member.reference, now)))
    return _done(args.name, steps, deployments=deployments)


def _rename(home: Home, args: argparse.Namespace) -> CommandResult:
    from flows.errors import FlowRefused
    from flows.steps.operations.usecase_changes import record_renaming
    from flows.workspace.roster import read_roster, write_roster

    roster = _whole_roster(home)
    usecase = roster.id_of(args.old)
    if usecase is None or usecase not in roster.usecases:
        raise FlowRefused(f"{args.old} is no use case of this home; those that are: {', '.join(roster.usecases)}")
    reference, old_name = roster.usecases[usecase].reference, roster.name_of(usecase)
    roster.rename(usecase, args.new, reference)  # refused here, before anything is written
    carriers = _id_carriers(home, usecase)
    steps = [
        f"{old_name} is named {args.new} from now on; {old_name} still leads to it, and is told so",
        "status, notices and `usecase list` show the new name; nothing is stopped, started or moved",
        f"keeps its id {usecase}, under which its history stands: {', '.join(carriers.values())}",
    ]
    if not args.yes:
        return _preview(old_name, steps)
    record_renaming(reference, old_name, args.new, args.reason)
    write_roster(home, read_roster(home).rename(usecase, args.new, reference))
    return _done(old_name, steps, id=usecase, renamed=args.new, carried=carriers)


def _id_carriers(home: Home, usecase: str) -> dict[str, str]:
    """What carries the id of a use case for good."""
    settings = home.settings
    return {
        "model": f"model {settings.model_name(usecase)}",
        "deployments": f"deployments {settings.deployment_name(usecase, '*')}",
        "rows": f"rows and lines of the chain with usecase = {usecase}",
        "labels": f'metrics with usecase="{usecase}"',
    }


def _whole_roster(home: Home) -> Roster:
    """The roster, with the one use case of the settings where the home has no file."""
    from flows.workspace.roster import Member, Roster, map_usecases, read_roster

    roster = read_roster(home)
    if roster.usecases:
        return roster
    members = {name: Member(ref) for name, ref in map_usecases([home.settings.usecase]).items()}
    return Roster(members, roster.names)


def _state(address: str) -> str:
    from flows.workspace.processes import responds

    if not address:
        return "not up"
    if responds(f"{address}/readyz"):
        return "answers"
    return "up, no active model" if responds(f"{address}/livez") else "does not answer"


def _preview(name: str, steps: list[str]) -> CommandResult:
    lines = "\n".join(f"  {line}" for line in steps)
    return CommandResult(
        {"usecase": name, "done": False, "steps": steps}, f"would do for {name}:\n{lines}\nadd --yes to do it"
    )


def _done(name: str, steps: list[str], **more: Any) -> CommandResult:
    lines = "\n".join(f"  {line}" for line in steps)
    return CommandResult({"usecase": name, "done": True, "steps": steps, **more}, f"done for {name}:\n{lines}")
