"""``threshold``: another threshold for a while, by the keys of two people."""

from __future__ import annotations

import argparse
from datetime import timedelta
from typing import TYPE_CHECKING

from flows.commands.common import (
    CommandResult,
    UsageRefused,
    common_arguments,
    enter_home,
    parse_instant,
    source_arguments,
)
from monitoring.core.text_table import table

if TYPE_CHECKING:
    from bentos.model.scoring_model import ScoringModel
    from flows.workspace.workspace import Workspace


def configure(_: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    common_arguments(parser, as_of=True)
    parser.add_argument(
        "action", nargs="?", choices=("show", "refit"),
        help="show calibrator, threshold and cost curve; or fit both again from matured data, as a new version",
    )  # fmt: skip
    parser.add_argument("--refit", action="store_true", help="the same as `refit`")
    parser.add_argument("--version", metavar="N", help="the version meant; the champion by default")
    source_arguments(parser)
    parser.add_argument("--set", type=float, dest="value", metavar="X", help="flag calibrated scores from X on")
    parser.add_argument("--until", metavar="T", help="ISO time with a zone, or a duration such as 4h; then it ends")
    parser.add_argument("--lift", action="store_true", help="end the order now; one key is enough")
    parser.add_argument("--reason", default="", help="why, in a few words; required")
    parser.add_argument(
        "--key-file", action="append", default=[], metavar="FILE", help="a file with one person's key; repeat for two"
    )


def run(args: argparse.Namespace) -> CommandResult:
    """Order or lift a threshold; without either, say what is in force."""
    enter_home(args)
    from bentos.keys import KeyRing
    from bentos.release.__main__ import threshold_command
    from flows.workspace.clock import machine_now
    from flows.workspace.workspace import open_workspace

    workspace = open_workspace(args.usecase)
    if args.refit or args.action == "refit":
        return _refit(workspace, args)
    if args.action == "show":
        return _show(workspace, args)
    if args.value is None and not args.lift:
        order = workspace.store.orders.standing(workspace.model).threshold
        if order is None or order.until <= machine_now():
            return CommandResult({"order": None}, "no threshold order is in force")
        order_facts = {"value": order.value, "version": order.version, "until": order.until.isoformat()}
        order_facts |= {"owners": list(order.owners), "reason": order.reason}
        return CommandResult(
            {"order": order_facts}, f"{order.value} for version {order.version} until {order.until.isoformat()}"
        )
    if args.value is not None and args.until is None:
        raise UsageRefused("--set needs --until: an order without an end is no order")
    ring = KeyRing.load(workspace.settings.keys_file)
    result = threshold_command(workspace.store, workspace.usecase, workspace.model, ring, args, workspace.actor)
    return CommandResult(result, f"{result['kind']} for version {result['version']}; decision {result['decision']}")


def _refit(workspace: Workspace, args: argparse.Namespace) -> CommandResult:
    from flows.runs.provenance import note_maker
    from flows.sources import open_source
    from flows.steps.data.read_history import read_history
    from flows.steps.training.refit_threshold import refit_threshold
    from flows.steps.training.role_assignment import assign_role
    from flows.steps.training.training_steps import TrainingStores
    from flows.workspace.progress import progress

    ref = workspace.version(args.version, ("champion",))
    location = {"path": args.path, "url": args.url, "table": args.table}
    source = open_source(workspace.usecase, args.source or "log", store=workspace.store, **location)
    with progress("refit"):
        history = read_history(source, workspace.usecase, parse_instant(args.as_of, workspace.usecase))
        refit = refit_threshold(
            workspace.usecase, ref, workspace.load(ref), history.read, history.as_of, TrainingStores.of(workspace)
        )
        digest = refit.model.metadata.data_digest
        request = workspace.request(args.reason, history.as_of)
        note_maker(workspace, "refit", refit.ref, refit.found.verdict, refit.run_id, digest, request)
        assignment = assign_role(workspace.release_context(), refit.ref, refit.found.verdict, request)
    metadata = refit.model.metadata
    data = {
        "parent": ref.label, "version": None if refit.ref is None else refit.ref.label, "role": assignment.role,
        "semantic_version": metadata.semantic_version, "threshold": refit.model.threshold.to_json(),
        "calibrator": refit.model.calibrator.to_json(), "reason": assignment.reason, "run_id": refit.run_id,
        "verdict": refit.found.verdict.to_json(),
    }  # fmt: skip
    cut = refit.model.threshold
    unit = "threshold" if cut.amount is None else f"least saving in {workspace.usecase.cost.currency}"
    text = f"{data['version'] or 'nothing was registered'}: {unit} {cut.value:.6g} ({cut.low:.6g} to {cut.high:.6g})"
    return CommandResult(data, f"{text}; {assignment.reason}", 0 if refit.ref is not None else 1)


def _show(workspace: Workspace, args: argparse.Namespace) -> CommandResult:
    from flows.steps.drift.matured_answers import read_matured_answers
    from flows.workspace.clock import business_time
    from monitoring.performance.cost import expected_gain, prices_of
    from monitoring.performance.thresholds import cost_curve

    ref = workspace.version(args.version, ("champion",))
    model = workspace.load(ref)
    cut, curve, basis = model.threshold, model.cost_curve, "the fold that chose the threshold"
    as_of = business_time(parse_instant(args.as_of, workspace.usecase))
    length = timedelta(days=28)
    rows = read_matured_answers(workspace.store, workspace.usecase, as_of, length).matured(length)
    rows = rows[rows["model"] == ref.label]
    if len(rows):
        prices, basis = prices_of(workspace.usecase.cost, rows), "matured answers"
        ranked = rows["score"] if cut.amount is None else expected_gain(rows["score"], prices)
        curve = cost_curve(rows["y"], ranked, prices, points=25, threshold_in_use=cut.value)
    data = {
        "version": ref.label, "threshold": cut.to_json(), "calibrator": model.calibrator.to_json(),
        "currency": workspace.usecase.cost.currency, "rows": len(rows), "curve_of": None if curve is None else basis,
        "curve": None if curve is None else curve.to_json(),
    }  # fmt: skip
    text = _threshold_text(workspace, ref.label, model)
    if curve is None:
        return CommandResult(
            data, f"{text}\n\nno matured answer of this version yet, and it holds no cost curve of its own"
        )
    heading = "threshold" if cut.amount is None else f"least saving, {workspace.usecase.cost.currency}"
    lines = curve.few(25, cut.value)
    return CommandResult(data, f"{text}\n\ncost of {basis}:\n{table(lines, (heading, 'cost', 'alerts', 'recall'))}")


def _threshold_text(workspace: Workspace, label: str, model: ScoringModel) -> str:
    cut = model.threshold
    optimum = "" if cut.cost_optimal is None else f", {cut.cost_optimal:.6g} by cost alone"
    capacity = "no limit" if cut.alerts_per_day is None else f"{cut.alerts_per_day} alerts a day"
    value = f"{cut.value:.6g} ({cut.low:.6g} to {cut.high:.6g}){optimum}"
    if cut.amount is not None:
        saving = f"{cut.value:.6g} ({cut.low:.6g} to {cut.high:.6g}) {workspace.usecase.cost.currency}"
        value = f"by {cut.amount}, ({cut.false_positive:g} + s) / ({cut.false_positive:g} + {cut.amount}), s {saving}"
    text = f"{label}: {value}; capacity {capacity}; calibrator {model.calibrator.kind}"
    if workspace.usecase.intervention.blocks_flagged:
        text += "\nflagged events are blocked: figures of matured answers are of events let through or labelled"
    return text
