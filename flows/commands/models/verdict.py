"""``verdict``: judge a file of two scores and a label, without server, registry or database."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.commands.common import CommandResult, common_arguments, format_outcome, parse_instant, usecase_of

if TYPE_CHECKING:
    from flows.steps.comparison.judge_file import FileRows
    from monitoring.comparison.judge import JudgedPlan

_COLUMNS = (
    "event_id", "event_time", "champion_score", "challenger_score", "label", "label_time",
    "champion_flag", "challenger_flag", "action", "propensity",
)  # fmt: skip


def configure(_: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("file", type=Path, metavar="FILE", help="CSV or Parquet, one row for each event")
    for role in _COLUMNS:
        parser.add_argument(
            f"--{role.replace('_', '-')}", metavar="COLUMN", help=f"column of the {role.replace('_', ' ')}"
        )
    for side in ("champion", "challenger"):
        parser.add_argument(f"--{side}-threshold", type=float, metavar="SCORE", help=f"the {side} flags from here on")
    parser.add_argument("--alert-rate", type=float, metavar="SHARE", help="share of events to flag, without thresholds")
    parser.add_argument("--html", type=Path, metavar="OUT", help="also write a page")
    common_arguments(parser, as_of=True)


def run(args: argparse.Namespace) -> CommandResult:
    """Judge the file."""
    # The products are small: threads would wait for each other longer than they work.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    usecase = usecase_of(args)
    from flows.steps.comparison.judge_file import JudgeOptions, judge_file

    request = JudgeOptions(
        {role: value for role in _COLUMNS if (value := getattr(args, role)) is not None},
        (args.champion_threshold, args.challenger_threshold),
        _share(args.alert_rate),
        parse_instant(args.as_of, usecase),
    )
    judgement, reading, plan = judge_file(usecase, args.file, request)
    data = _data(judgement, reading) | {"plan": plan.to_json(), "plan_hash": plan.digest}
    if args.html is not None:
        from monitoring.reports.html import write_comparison_report

        data["report"] = str(write_comparison_report(args.html, judgement.result, judgement.verdict, reading.notes))
    return CommandResult(data, _text(judgement, reading, args.html))


def _share(value: float | None) -> float | None:
    from flows.commands.common import UsageRefused

    if value is not None and not 0.0 < value < 1.0:
        raise UsageRefused(f"--alert-rate is a share between 0 and 1, found {value}")
    return value


def _data(judgement: JudgedPlan, reading: FileRows) -> dict[str, Any]:
    from monitoring.comparison.paired import BESIDE_THE_DECISION

    thresholds = reading.thresholds
    return {
        "outcome": judgement.verdict.outcome,
        "reasons": list(judgement.verdict.reasons),
        "as_of": reading.as_of.isoformat(),
        "counts": reading.counts,
        "columns": reading.columns,
        "thresholds": None if thresholds is None else {"champion": thresholds[0], "challenger": thresholds[1]},
        "notes": list(reading.notes),
        "verdict": judgement.verdict.to_json(),
        "not_used_in_the_decision": list(BESIDE_THE_DECISION),
        "result": judgement.result.to_json(),
    }


def _text(judgement: JudgedPlan, reading: FileRows, page: Path | None) -> str:
    from flows.views.comparison import appendix_of
    from flows.workspace.outcome import FlowOutcome

    verdict, result = judgement.verdict, judgement.result
    summary = f"{verdict.outcome.replace('_', ' ')}: {verdict.challenger} against {verdict.champion}"
    counts = reading.counts
    figures: list[tuple[str, object]] = [("as of", f"{reading.as_of:%Y-%m-%d %H:%M} UTC")]
    figures += [("rows", f"{counts['rows']} read, {counts['judged']} judged, {counts['immature']} not matured")]
    figures += [("matured days", result.days), ("positives", result.positives)]
    thresholds = reading.thresholds
    figures += [
        ("thresholds", "the file's decisions" if thresholds is None else f"{thresholds[0]:.6g}, {thresholds[1]:.6g}")
    ]
    figures += [("blocked without a label", f"{result.unseen:.0f}")] if result.unseen else []
    figures += [("days still needed", verdict.days_needed)] if verdict.outcome == "keep_watching" else []
    figures += [("because", reason) for reason in verdict.reasons]
    figures += [("note", note) for note in reading.notes]
    outcome = FlowOutcome(
        "verdict", "done", summary, reading.as_of, {}, verdict.checks, figures, page, appendix_of(result)
    )
    return format_outcome(outcome)
