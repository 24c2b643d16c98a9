"""``drift``, ``compare``, ``promote``, ``rollback``: what decides who is in office."""

from __future__ import annotations

import argparse
from datetime import datetime

from flows.commands.common import Reply, common_arguments, enter_home, instant, run_flow, usecase_of


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


def run(args: argparse.Namespace) -> Reply:
    """Run the chosen command."""
    as_of = instant(args.as_of, usecase_of(args))
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


def _new_plan(args: argparse.Namespace, as_of: datetime | None) -> Reply:
    """Freeze a plan of today's policies; the comparison starts again on the next whole day."""
    from flows.steps.comparison.compare import contestants, renew_plan
    from flows.workspace.clock import business_time
    from flows.workspace.workspace import open_house

    enter_home(args)
    house, at = open_house(args.usecase), business_time(as_of)
    duel = contestants(house.store, house.registry, house.usecase, house.model, at)
    made = renew_plan(house.store, house.usecase, duel, at, actor=house.actor, reason=args.reason)
    data = {"comparison": made.id, "plan_hash": made.plan_hash, "plan": made.plan.to_json()}
    text = f"{duel.challenger} against {duel.champion} starts anew on {made.plan.first_day}, plan {made.plan_hash[:16]}"
    return Reply(data, text)


def _emergency(args: argparse.Namespace) -> Reply:
    """The challenger takes office without a verdict; two people answer for it."""
    from dataclasses import asdict

    from bentos.keys import KeyRing
    from bentos.keys.prompt import tokens
    from bentos.release.__main__ import end_of
    from bentos.release.emergency import promote_emergency, review_time, two_people
    from flows.workspace.clock import machine_now
    from flows.workspace.workspace import open_house

    enter_home(args)
    house, now = open_house(args.usecase), machine_now()
    keys = two_people(KeyRing.load(house.settings.keys_file), tokens(args.key_file, 2), now)
    due = review_time(house.usecase, now, end_of(args.until, now))
    done = promote_emergency(
        house.registry, house.store, house.registry.resolve(house.model, "challenger"), keys, usecase=house.usecase,
        actor=house.actor, reason=args.reason, now=now, until=due, preview=args.preview, wait_seconds=10.0,
    )  # fmt: skip
    end = f"it is rolled back at {due:%Y-%m-%d %H:%M:%S} UTC unless a third person has reviewed it"
    return Reply(asdict(done), f"{done.message}; {end}")
