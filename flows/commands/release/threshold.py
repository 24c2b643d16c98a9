"""``threshold``: another threshold for a while, by the keys of two people."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from flows.commands.common import Reply, UsageRefused, common_arguments, enter_home, instant, source_arguments
from monitoring.core.text_table import table

if TYPE_CHECKING:
    from bentos.model.scoring_model import ScoringModel
    from flows.workspace.workspace import House


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


def run(args: argparse.Namespace) -> Reply:
    """Order or lift a threshold; without either, say what is in force."""
    enter_home(args)
    from bentos.keys import KeyRing
    from bentos.release.__main__ import threshold_command
    from flows.workspace.clock import machine_now
    from flows.workspace.workspace import open_house

    house = open_house(args.usecase)
    if args.refit or args.action == "refit":
        return _refit(house, args)
    if args.action == "show":
        return _show(house, args)
    if args.value is None and not args.lift:
        order = house.store.orders.standing(house.model).threshold
        if order is None or order.until <= machine_now():
            return Reply({"order": None}, "no threshold order is in force")
        told = {"value": order.value, "version": order.version, "until": order.until.isoformat()}
        told |= {"owners": list(order.owners), "reason": order.reason}
        return Reply({"order": told}, f"{order.value} for version {order.version} until {order.until.isoformat()}")
    if args.value is not None and args.until is None:
        raise UsageRefused("--set needs --until: an order without an end is no order")
    made = threshold_command(
        house.store, house.usecase, house.model, KeyRing.load(house.settings.keys_file), value=args.value,
        until=args.until, lift=args.lift, reason=args.reason, files=args.key_file, actor=house.actor,
    )  # fmt: skip
    return Reply(made, f"{made['kind']} for version {made['version']}; decision {made['decision']}")


def _refit(house: House, args: argparse.Namespace) -> Reply:
    from flows.runs.provenance import note_maker
    from flows.sources import open_source
    from flows.steps.data.read_history import read_history
    from flows.steps.training.refit_threshold import refit_threshold
    from flows.steps.training.role_assignment import seat
    from flows.workspace.progress import progress

    ref = house.version(args.version, ("champion",))
    place = {"path": args.path, "url": args.url, "table": args.table}
    source = open_source(house.usecase, args.source or "log", store=house.store, **place)
    with progress("refit"):
        history = read_history(source, house.usecase, instant(args.as_of, house.usecase))
        made = refit_threshold(
            house.usecase, ref, house.load(ref), history.read, history.as_of,
            registry=house.registry, snapshots=house.snapshots,
        )  # fmt: skip
        data = made.model.metadata.data_digest
        note_maker(house, "refit", made.ref, made.found.verdict, made.run_id, data, history.as_of, args.reason)
        seated = seat(
            house.usecase, house.settings, house.registry, house.store, made.ref, made.found.verdict,
            actor=house.actor, now=history.as_of,
        )  # fmt: skip
    about = made.model.metadata
    said = {
        "parent": ref.label, "version": None if made.ref is None else made.ref.label, "role": seated.role,
        "semantic_version": about.semantic_version, "threshold": made.model.threshold.to_json(),
        "calibrator": made.model.calibrator.to_json(), "reason": seated.reason, "run_id": made.run_id,
        "verdict": made.found.verdict.to_json(),
    }  # fmt: skip
    cut = made.model.threshold
    what = "threshold" if cut.amount is None else f"least saving in {house.usecase.cost.currency}"
    text = f"{said['version'] or 'nothing was registered'}: {what} {cut.value:.6g} ({cut.low:.6g} to {cut.high:.6g})"
    return Reply(said, f"{text}; {seated.reason}", 0 if made.ref is not None else 1)


def _show(house: House, args: argparse.Namespace) -> Reply:
    from flows.steps.drift.check import matured_rows, with_cost_column_of
    from flows.workspace.clock import business_time
    from monitoring.performance.cost import expected_gain, prices_of
    from monitoring.performance.thresholds import cost_curve

    ref = house.version(args.version, ("champion",))
    model = house.load(ref)
    cut, curve, basis = model.threshold, model.cost_curve, "the fold that chose the threshold"
    as_of = business_time(instant(args.as_of, house.usecase))
    rows = with_cost_column_of(house.store, house.usecase, matured_rows(house.store, house.usecase, as_of, 28))
    rows = rows[rows["model"] == ref.label] if len(rows) else rows
    if len(rows):
        prices, basis = prices_of(house.usecase.cost, rows), "matured answers"
        ranked = rows["score"] if cut.amount is None else expected_gain(rows["score"], prices)
        curve = cost_curve(rows["y"], ranked, prices, points=25, used=cut.value)
    data = {
        "version": ref.label, "threshold": cut.to_json(), "calibrator": model.calibrator.to_json(),
        "currency": house.usecase.cost.currency, "rows": len(rows), "curve_of": None if curve is None else basis,
        "curve": None if curve is None else curve.to_json(),
    }  # fmt: skip
    text = _cut_in_words(house, ref.label, model)
    if curve is None:
        return Reply(data, f"{text}\n\nno matured answer of this version yet, and it holds no cost curve of its own")
    first = "threshold" if cut.amount is None else f"least saving, {house.usecase.cost.currency}"
    lines = curve.few(25, cut.value)
    return Reply(data, f"{text}\n\ncost of {basis}:\n{table(lines, (first, 'cost', 'alerts', 'recall'))}")


def _cut_in_words(house: House, label: str, model: ScoringModel) -> str:
    cut = model.threshold
    optimum = "" if cut.cost_optimal is None else f", {cut.cost_optimal:.6g} by cost alone"
    capacity = "no limit" if cut.alerts_per_day is None else f"{cut.alerts_per_day} alerts a day"
    value = f"{cut.value:.6g} ({cut.low:.6g} to {cut.high:.6g}){optimum}"
    if cut.amount is not None:
        saving = f"{cut.value:.6g} ({cut.low:.6g} to {cut.high:.6g}) {house.usecase.cost.currency}"
        value = f"by {cut.amount}, ({cut.false_positive:g} + s) / ({cut.false_positive:g} + {cut.amount}), s {saving}"
    text = f"{label}: {value}; capacity {capacity}; calibrator {model.calibrator.kind}"
    if house.usecase.intervention.blocks_flagged:
        text += "\nflagged events are blocked: figures of matured answers are of events let through or labelled"
    return text
