"""``drift``, ``compare``, ``promote``, ``rollback``: what decides who is active."""

from __future__ import annotations

import argparse
from datetime import datetime

from flows.commands.common import CommandResult, common_arguments, enter_home, parse_instant, run_flow, usecase_of


def configure(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of one command."""
    common_arguments(parser, as_of=True)
    if name in ("drift", "compare"):
        choices = ("on_change", "always", "never")
        when = "always" if name == "drift" else "on_change"
        parser.add_argument("--html", choices=choices, default=when, help="when a page is written")
    if name == "compare":
        parser.add_argument("--new-plan", action="store_true", help="start anew by today's policy file; needs --reason")
        parser.add_argument("--reason", default="", help="why a new plan, for the record")
    if name == "drift":
        parser.add_argument("--no-skew", action="store_true", help="do not recompute features from raw events")
    if name in ("promote", "rollback"):
        parser.add_argument("--reason", default="", help="why, in a few words; without it only a preview is shown")
        parser.add_argument("--preview", action="store_true", help="show what would be written, change nothing")
    if name == "promote":
        parser.add_argument("--emergency", action="store_true", help="without a verdict, by the keys of two people")
        parser.add_argument("--key-file", action="append", default=[], metavar="FILE", help="a file with a key; twice")
        parser.add_argument("--until", metavar="T", help="of an emergency: ISO time, or 4h; then it is rolled back")


def run(args: argparse.Namespace) -> CommandResult:
    """Run the chosen command."""
    as_of = parse_instant(args.as_of, usecase_of(args))
    if args.command == "drift":
        return run_flow(args, "drift", "drift check", as_of=as_of, html=args.html, skew=not args.no_skew)
    if args.command == "compare" and args.new_plan:
        return _new_plan(args, as_of)
    if args.command == "compare":
        return run_flow(args, "comparison", "comparison", as_of=as_of, html=args.html)
    if args.command == "promote" and args.emergency:
        return _emergency(args)
    module = "promotion" if args.command == "promote" else "rollback"
    preview = args.preview or not args.reason.strip()
    return run_flow(args, module, module, as_of=as_of, preview=preview, reason=args.reason)


def _new_plan(args: argparse.Namespace, as_of: datetime | None) -> CommandResult:
    """Freeze a plan of today's policies; the comparison starts again on the next whole day."""
    from flows.steps.comparison.compare import compared_models, renew_plan
    from flows.workspace.clock import business_time
    from flows.workspace.workspace import open_workspace

    enter_home(args)
    workspace, at = open_workspace(args.usecase), business_time(as_of)
    pair = compared_models(workspace.store, workspace.registry, workspace.usecase, workspace.model, at)
    row = renew_plan(workspace.store, workspace.usecase, pair, workspace.request(args.reason, at))
    data = {"comparison": row.id, "plan_hash": row.plan_hash, "plan": row.plan.to_json()}
    text = f"{pair.challenger} against {pair.champion} starts anew on {row.plan.first_day}, plan {row.plan_hash[:16]}"
    return CommandResult(data, text)


def _emergency(args: argparse.Namespace) -> CommandResult:
    """The challenger becomes champion without a verdict; two people answer for it."""
    from dataclasses import asdict

    from bentos.keys import KeyRing
    from bentos.keys.prompt import tokens
    from bentos.release.__main__ import end_of
    from bentos.release.emergency import promote_emergency, review_time, two_people
    from flows.workspace.clock import machine_now
    from flows.workspace.workspace import open_workspace

    enter_home(args)
    workspace, now = open_workspace(args.usecase), machine_now()
    keys = two_people(KeyRing.load(workspace.settings.keys_file), tokens(args.key_file, 2), now)
    review_at = review_time(workspace.usecase, now, end_of(args.until, now))
    target = workspace.registry.resolve(workspace.model, "challenger")
    request = workspace.request(args.reason, now, args.preview)
    promotion = promote_emergency(workspace.release_context(10.0), target.version, keys, request, until=review_at)
    end = f"it is rolled back at {review_at:%Y-%m-%d %H:%M:%S} UTC unless a third person has reviewed it"
    return CommandResult(asdict(promotion), f"{promotion.message}; {end}")
