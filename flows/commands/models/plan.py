"""``plan``: what a comparison will need, before anyone waits for it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from flows.commands.common import CommandResult, UsageRefused, common_arguments, enter_home, parse_instant, usecase_of
from monitoring.core.text_table import table

if TYPE_CHECKING:
    from flows.steps.comparison.traffic_estimate import TrafficEstimate
    from monitoring.comparison.sample_size import PlannedComparison


def configure(_: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--effect", type=float, required=True, metavar="GAIN", help="recall points to be found, 0.02")
    parser.add_argument("--power", type=float, default=0.8, metavar="SHARE", help="chance to find it; 0.8")
    parser.add_argument("--prevalence", type=float, metavar="SHARE", help="positives among events; from the log")
    parser.add_argument(
        "--discordance",
        type=float,
        metavar="SHARE",
        help="positives that only one model catches; from the log",
    )
    parser.add_argument("--events-per-day", type=float, metavar="N", help="traffic; from the log")
    common_arguments(parser, as_of=True)


def run(args: argparse.Namespace) -> CommandResult:
    """Plan a comparison under the rule in force."""
    from datetime import timedelta

    from flows.steps.comparison.traffic_estimate import discordance_for, require_figure
    from monitoring.comparison.sample_size import Traffic, plan_under_rule

    usecase = usecase_of(args)
    log_outlook = _read_outlook(args)
    try:
        plan = plan_under_rule(
            args.effect,
            Traffic(
                discordance_for(args.effect, args.discordance, log_outlook.discordance)[0],
                require_figure("prevalence", args.prevalence, log_outlook.prevalence),
                require_figure("events_per_day", args.events_per_day, log_outlook.events_per_day),
            ),
            usecase.promotion,
            maturity_days=usecase.label.matures_after / timedelta(days=1),
            power=args.power,
        )
    except ValueError as exc:
        raise UsageRefused(str(exc)) from exc
    return CommandResult(
        _data(plan, log_outlook, args), _text(plan, usecase.promotion.max_shadow_days, log_outlook, args)
    )


def _read_outlook(args: argparse.Namespace) -> TrafficEstimate:
    """The log is opened only where an option is missing."""
    from flows.steps.comparison.traffic_estimate import TrafficEstimate, estimate_traffic

    if None not in (args.prevalence, args.discordance, args.events_per_day):
        return TrafficEstimate(None, None, None)
    from flows.workspace.clock import business_time
    from flows.workspace.workspace import open_workspace

    enter_home(args)
    workspace = open_workspace(args.usecase)
    return estimate_traffic(
        workspace.store, workspace.usecase, business_time(parse_instant(args.as_of, workspace.usecase))
    )


def _data(plan: PlannedComparison, log_outlook: TrafficEstimate, args: argparse.Namespace) -> dict[str, Any]:
    from monitoring.core.measured import to_plain

    return {**to_plain(plan), "sources": _sources(log_outlook, args)}


def _sources(log_outlook: TrafficEstimate, args: argparse.Namespace) -> dict[str, str]:
    from flows.steps.comparison.traffic_estimate import discordance_for

    sources = {"discordance": discordance_for(args.effect, args.discordance, log_outlook.discordance)[1]}
    for name in ("prevalence", "events_per_day"):
        sources[name] = "given" if getattr(args, name) is not None else log_outlook.sources[name]
    return sources


def _text(plan: PlannedComparison, limit: int, log_outlook: TrafficEstimate, args: argparse.Namespace) -> str:
    sources = _sources(log_outlook, args)
    rows: list[tuple[str, object, str]] = [
        ("prevalence", plan.prevalence, sources["prevalence"]),
        ("discordance", plan.discordance, sources["discordance"]),
        ("events a day", plan.events_per_day, sources["events_per_day"]),
        ("positives needed", plan.positives, f"rule {plan.rule}; one look at the end: {plan.fixed.positives}"),
        ("events needed", plan.events, f"one look at the end: {plan.fixed.events}"),
        ("days in shadow", plan.exposure_days, f"half of such comparisons end by day {plan.median_days}"),
        ("calendar days", plan.calendar_days, f"with {plan.maturity_days:g} days until labels are mature"),
        ("power at the limit", plan.power_at_limit, f"after {limit} days a comparison ends by itself"),
    ]
    if plan.exposure_days is None:
        head = f"a gain of {plan.effect:g} cannot be found with power {plan.power:g} at this traffic"
    else:
        head = f"a gain of {plan.effect:g} is found with power {plan.power:g} after {plan.calendar_days} calendar days"
    if plan.calendar_days is None or plan.calendar_days > limit:
        head += f"; that is longer than max_shadow_days ({limit}), so plan for a larger effect or a longer shadow"
    return f"{head}\n\n{table([(name, value, note) for name, value, note in rows])}"
