"""``up``, ``down`` and ``demo``: what starts processes and stops them again."""

from __future__ import annotations

import argparse
import os
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from flows.commands.common import CommandResult, common_arguments, home_of, print_notice
from monitoring.core.text_table import table

if TYPE_CHECKING:
    from flows.stack.local_stack import Stack
    from flows.workspace.installation import Home


def configure(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of one command."""
    common_arguments(parser, several=name == "up")
    if name == "up":
        parser.add_argument("--host", default="127.0.0.1", help="address to listen on; 127.0.0.1 by default")
        parser.add_argument("--detach", action="store_true", help="return once all is up; stop it with: incumbent down")
    if name in ("up", "down"):
        parser.add_argument("--demo", action="store_true", help="the demo's home instead of your own")
    if name == "demo":
        parser.add_argument("--keep", action="store_true", help="leave the stack up at the end (also KEEP=1)")
        parser.add_argument("--data", metavar="FILE", help="refused, with what to run on a table of your own instead")


def run(args: argparse.Namespace) -> CommandResult:
    """Run the chosen command."""
    return {"up": _up, "down": _down, "demo": _demo}[args.command](args)


def _up(args: argparse.Namespace) -> CommandResult:
    from bentos.api.key_gate import make_gate
    from flows.stack.local_stack import Ports, running, start_all, to_stderr
    from flows.stack.retry import retry_given_up
    from flows.workspace.installation import foreign_settings
    from flows.workspace.progress import progress
    from flows.workspace.roster import settle_roster

    ignored_settings = foreign_settings(os.environ)
    references = _references(args)
    home = home_of(args)
    if not references and (restarted_parts := retry_given_up(home)):
        return CommandResult(
            {"started_again": restarted_parts}, f"already up; started again: {', '.join(restarted_parts)}"
        )
    make_gate(home.settings, args.host)  # refused before anything is started, not by the service in the middle of it
    prepare = partial(settle_roster, home, references)  # not before the home is ours: a running stack follows the file
    with running(home, Ports.find(settled=True, host=args.host), outlive=args.detach, prepare=prepare) as stack:
        with progress("stack") as bar:
            ready: list[str] = []

            def show_progress(name: str) -> None:
                ready.append(name)
                bar.say(name)
                bar(len(ready), len(stack.keepers))

            stack.say = bar.tell
            start_all(stack, show_progress)
        stack.say = to_stderr
        data = _addresses(stack) | ({"not_followed": ignored_settings} if ignored_settings else {})
        if args.detach:
            stack.leave()
            stop_command = "incumbent down --demo" if args.demo else "incumbent down"
            return CommandResult(data, f"{_stack_text(data, args)}\n\nstop it with: {stop_command}")
        _show_and_wait(stack, data, args)
    return CommandResult({"stopped": True}, "stopped")


def _references(args: argparse.Namespace) -> list[str]:
    """The use cases that are named; ``args.usecase`` becomes the one whose parts have the plain names.

    Where none is named, those of the home's roster run, and first among them the one of the settings.
    """
    from flows.stack.local_stack import demo_home
    from flows.workspace.installation import open_home, usecase_reference
    from flows.workspace.roster import current_name, map_usecases, read_roster, resolve_usecase

    home = open_home()
    if args.demo:
        home = demo_home(home)
    for word in args.usecase or ():
        if (present_name := current_name(home, word)) != word:
            print_notice(f"{word} is now named {present_name}")
    references = [usecase_reference(resolve_usecase(home, word)) for word in args.usecase or ()]
    args.usecase = references[0] if references else None
    active = {} if references else read_roster(home).active
    if active:
        (name,) = map_usecases([resolve_usecase(home, home.settings.usecase)])
        args.usecase = active.get(name) or next(iter(active.values()))
    return references


def _show_and_wait(stack: Stack, data: dict[str, Any], args: argparse.Namespace) -> None:
    from flows.commands.common import print_reply
    from flows.stack.supervisor import supervise

    print_reply(CommandResult(data, f"{_stack_text(data, args)}\n\nCtrl-C stops it"), as_json=args.json)
    try:
        supervise(stack)
    except KeyboardInterrupt:
        return


def _down(args: argparse.Namespace) -> CommandResult:
    from flows.stack.local_stack import stop_left_running

    stopped_parts = stop_left_running(home_of(args))
    return CommandResult(
        {"stopped": stopped_parts}, f"stopped {', '.join(stopped_parts)}" if stopped_parts else "nothing was up"
    )


def _demo(args: argparse.Namespace) -> CommandResult:
    from flows.demo.story import refuse_table, run_demo
    from flows.stack.local_stack import demo_home
    from flows.workspace.installation import open_home

    home = open_home(**({"usecase": args.usecase} if args.usecase else {}))
    if args.data:
        refuse_table(home.settings.usecase, args.data)
    keep = args.keep or os.environ.get("KEEP", "") not in ("", "0")
    start_time = time.monotonic()
    summary = run_demo(home, keep=keep)
    return CommandResult(
        summary, _demo_text(summary, demo_home(home), keep, time.monotonic() - start_time, args.usecase)
    )


def _addresses(stack: Stack) -> dict[str, Any]:
    from flows.commands.platform.login import where
    from flows.runs.links import stack_pages

    replica_urls = {name: url for name, url in stack.urls.items() if name.startswith("service-")}
    files = {"scrape_targets": str(stack.home.run / "targets"), "logs": str(stack.home.logs)}
    return (
        stack_pages(stack.urls)
        | replica_urls
        | files
        | where(stack.home)
        | {"mlflow_ui": mlflow_command(demo=stack.home.root.name == "demo")}
    )


def _stack_text(data: dict[str, Any], args: argparse.Namespace) -> str:
    from monitoring.core.hosts import is_loopback

    lines = [table(list(data.items())), "", f"passwords and links with them: incumbent login{' --demo' * args.demo}"]
    if not is_loopback(args.host):
        lines.append(
            f"{args.host}: other machines reach Prefect (its password), the reports (their token) and the service "
            "(API keys), over plain HTTP; put a proxy with TLS before them. The exporter stays on this machine."
        )
    if "not_followed" in data:
        lines.append("Prefect's own settings in this environment that a stack does not follow: see not_followed")
    return "\n".join(lines)


def mlflow_command(*, demo: bool = False) -> str:
    """The command that serves MLflow's pages on a home's models and runs."""
    return f"incumbent mlflow{' --demo' * demo}"


def _demo_text(summary: dict[str, Any], home: Home, keep: bool, seconds: float, usecase: str | None) -> str:
    rows = [
        ("live days", summary["days"]),
        ("events answered", summary["rows_scored"]),
        ("events in the log", summary["rows_logged"]),
        ("failed requests", summary["failed_requests"]),
        ("the world changed on day", summary["shift_day"]),
        ("it was noticed on day", summary["noticed_day"]),
    ]
    for role in ("champion", "challenger"):
        rows += [(f"{role} {summary[role]['version']}: recall", _interval(summary[role]["recall"]))]
        rows += [(f"{role} {summary[role]['version']}: cost, {summary['currency']}", _interval(summary[role]["cost"]))]
        rows += _gate_rows(role, summary)
    for change in ("promotion", "rollback"):
        rows.append((f"{change}: seconds to the first answer", summary[f"{change}_seconds"]))
    rows.append(("minutes", round(seconds / 60, 1)))
    return f"{table(rows)}\n\n{_where_to_look(home, keep, usecase)}"


def _gate_rows(role: str, summary: dict[str, Any]) -> list[tuple[str, str]]:
    """What an offer to the flagged earned on the rows of the gates, where one is declared."""
    label = summary[role]["version"]
    gate_figures = summary["gates"].get(label, {})
    if "profit_per_customer" not in gate_figures:
        return []
    profit = f"{role} {label}: profit a customer at the gates, {summary['currency']}"
    return [(f"{role} {label}: AUC at the gates", _interval(gate_figures["auc_roc"])),
            (profit, _interval(gate_figures["profit_per_customer"]))]  # fmt: skip


def _interval(figure: dict[str, Any] | None) -> str:
    if not figure or figure["value"] is None:
        return "unknown"
    low, high = figure["low"], figure["high"]
    form = "{:,.0f}" if abs(figure["value"]) >= 10 else "{:.3f}"
    return form.format(figure["value"]) + (f" ({form.format(low)} to {form.format(high)})" if low is not None else "")


def _where_to_look(home: Home, keep: bool, usecase: str | None) -> str:
    from flows.runs.links import stack_pages
    from flows.stack.local_stack import program

    rows = [("summary", str(home.root / "summary.json"))]
    rows += [("report", str(page)) for page in sorted(home.settings.reports.rglob("*.html"))]
    rows.append(("mlflow", mlflow_command(demo=True)))
    if keep:
        rows += stack_pages(home.live_addresses()).items()
        rows += [("login", f"{program('incumbent')} login --demo"), ("stop it", f"{program('incumbent')} down --demo")]
    else:
        which = f" --usecase {usecase}" if usecase else ""
        again = f"{program('incumbent')} up --demo{which}"
        rows.append(("prefect", f"{again}   (and the service, and the reports over HTTP)"))
    return table([*rows, ("logs", str(home.logs))])
