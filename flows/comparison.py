"""Comparison: challenger and champion on the same matured events, and a verdict that is kept."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from bentos.promotion.promote import take_turn
from flows.runs.operation import operation
from flows.runs.run_record import recorded
from flows.steps.comparison.compare import compare, contestants, retire
from flows.steps.comparison.replay_verdict import record_verdict
from flows.steps.reports.dossier import comparison_page
from flows.views.reports import comparison_view
from flows.workspace.outcome import Outcome
from flows.workspace.workspace import open_house

Pages = Literal["on_change", "always", "never"]


@operation("compare {model} as of {time}")
def comparison(
    usecase: str | None = None,
    as_of: datetime | None = None,
    html: Pages = "on_change",
) -> Outcome:
    """Compare challenger and champion on the same matured events and store a verdict.

    The frozen plan decides. After the verdict ``keep`` the challenger leaves shadow.

    Args:
        usecase: Name of a built-in use case or path of a TOML file. Empty takes the installation's.
        as_of: Business time of the comparison; nothing later is looked at. Empty takes now.
        html: When a page is written: when the verdict changed or promotes, always, or never.
    """
    house = open_house(usecase)
    with recorded(house, "comparison", as_of) as run:
        # Whoever waits enters shadow now if the process that should have seen to it died.
        take_turn(house.registry, house.store, house.model, usecase=house.usecase, actor=house.actor, now=run.as_of)
        duel = contestants(house.store, house.registry, house.usecase, house.model, run.as_of)
        before = house.store.reports.latest(house.usecase.name, "comparison", challenger=duel.challenger)
        found = compare(house.store, house.usecase, house.evidence, duel, run.as_of, house.actor)
        outcome = found.verdict.outcome
        changed = found.result.days > 0 and (before is None or before.outcome != outcome)
        page = comparison_page(house, found) if page_wanted(html, outcome, changed) else None
        run.keep("comparison", outcome, found.to_json(), model=duel.champion, challenger=duel.challenger, html=page)
        record_verdict(house.store, house.usecase, found, run.as_of, house.actor)
        retired = retire(house.store, house.registry, house.usecase, found, run.as_of, house.actor)
        return run.conclude(comparison_view(found, run.as_of, page, retired=retired))


def page_wanted(html: Pages, outcome: str, changed: bool) -> bool:
    """Whether a comparison writes its page.

    A verdict to promote always has one unless pages are off: whoever is asked to approve, a second time too,
    must see the evidence of that very day.
    """
    return html == "always" or (html == "on_change" and (changed or outcome == "promote"))
