"""How many alarms a year a drift rule raises when nothing drifts, and how soon it notices what does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
import pandas as pd

from monitoring.stats.intervals import wilson
from tests.bench.quality.alarm_simulation import RULES, DailyRows, days_until
from tests.bench.quality.markdown_tables import write_between

YEAR: Final = 365
ROWS: Final = (200, 1000, 10_000)
SHIFTS: Final = (0.25, 0.5, 1.0)
PATIENCE: Final = 60
"""Days after which a shift counts as never noticed."""
BEGIN, END = "<!-- alarms:begin -->", "<!-- alarms:end -->"

Told = Callable[[str], None]


def bench_alarms(
    *,
    years: int = 20,
    trials: int = 200,
    features: int = 20,
    checks: int = 1,
    seed: int = 7,
    told: Told = lambda _: None,
) -> dict[str, Any]:
    """Simulate every rule on the same days.

    Args:
        years: simulated years without drift, for each number of rows.
        trials: shifts of each size; each is watched for 60 days.
        features: of which one moves.
        checks: days for each number of rows on which Evidently itself runs, to be held against its rule here.
        seed: of everything random.
        told: is told what is simulated.

    Returns:
        rule -> rows a day -> ``alarms_per_year`` (days with an alarm, of 365), ``interval`` (95 %, of the
        same), ``days_to_notice`` (shift in standard deviations -> median day on which the feature that
        moved is named; none where that takes more than 60 days in half the trials) and ``noticed`` (share
        of trials within 60 days). The rules are :data:`tests.bench.quality.alarm_simulation.RULES`. Beside them
        ``simulation`` holds the settings.
    """
    found: dict[str, Any] = {rule: {} for rule in RULES}
    for rows in ROWS:
        told(f"{rows:,} rows a day, no drift")
        quiet = _years(DailyRows(rows, features), years, seed)
        for rule, alarmed in quiet.items():
            share = wilson(int(alarmed.sum()), len(alarmed))
            bounds = [None if b is None else round(YEAR * b, 2) for b in (share.low, share.high)]
            found[rule][str(rows)] = {
                "alarms_per_year": round(YEAR * float(alarmed.mean()), 3),
                "interval": bounds,
                "days_to_notice": {},
                "noticed": {},
            }
        for shift in SHIFTS:
            told(f"{rows:,} rows a day, a feature moves by {shift:g} standard deviations")
            for rule, days in _noticed(DailyRows(rows, features, shift=shift), trials, seed + 1).items():
                known = [np.inf if day is None else day for day in days]
                middle = float(median(known))
                found[rule][str(rows)]["days_to_notice"][f"{shift:g}"] = middle if np.isfinite(middle) else None
                found[rule][str(rows)]["noticed"][f"{shift:g}"] = sum(day is not None for day in days) / trials
    told("Evidently itself")
    gap = max((abs(a - b) for a, b in evidently_checks(checks, seed)), default=None)
    found["simulation"] = {
        "years": years, "trials": trials, "features": features, "patience_days": PATIENCE,
        "evidently_days": checks * len(ROWS), "evidently_largest_difference": gap,
    }  # fmt: skip
    return found


def evidently_checks(
    days: int, seed: int, features: int = 4, reference_rows: int = 100_000
) -> Iterator[tuple[float, float]]:
    """Evidently's own distance of each column, by its default test, beside the same from its formula."""
    from scipy.stats import wasserstein_distance

    from monitoring.reports.evidently_report import evidently_default

    rng = np.random.default_rng(seed)
    reference = pd.DataFrame({f"f{n}": rng.normal(size=reference_rows) for n in range(features)})
    for rows in ROWS:
        for _ in range(days):
            current = pd.DataFrame({name: rng.normal(size=rows) for name in reference})
            for name, value in evidently_default(reference, current).items():
                yield value, wasserstein_distance(reference[name], current[name]) / float(np.std(reference[name]))


def _years(setting: DailyRows, years: int, seed: int) -> dict[str, np.ndarray]:
    """For each rule, whether each day has any alarm."""
    parts = [setting.simulate(YEAR, seed * 100_003 + year) for year in range(years)]
    return {rule: np.concatenate([part[rule].any(axis=1) for part in parts]) for rule in RULES}


def _noticed(setting: DailyRows, trials: int, seed: int) -> dict[str, list[int | None]]:
    """For each rule, the day on which it first names the feature that moved."""
    found: dict[str, list[int | None]] = {rule: [] for rule in RULES}
    for trial in range(trials):
        for rule, alarms in setting.simulate(PATIENCE, seed * 100_003 + trial).items():
            found[rule].append(days_until(alarms[:, 0]))
    return found


def write_table(found: dict[str, Any], file: Path) -> None:
    """Put the table between the markers of a page.

    Raises:
        ValueError: the page lacks the markers.
    """
    write_between(file, BEGIN, END, table_of(found))


def table_of(found: dict[str, Any]) -> str:
    """The table as Markdown."""
    about = found["simulation"]
    head = ["rule", "rows a day", "alarms a year, no drift", *(f"days to notice {s:g} sd" for s in SHIFTS)]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for rule in RULES:
        for rows, row in found[rule].items():
            low, high = row["interval"]
            cells = [_NAMES[rule], f"{int(rows):,}", f"{row['alarms_per_year']:.1f} ({low:.1f} to {high:.1f})"]
            cells += [_days(row, f"{s:g}") for s in SHIFTS]
            lines.append("| " + " | ".join(cells) + " |")
    intro = (
        f"{about['features']} features and {about['years']} simulated years for each row; {about['trials']} shifts of\n"
        f"each size in one feature, watched for {about['patience_days']} days. Alarms are days with an alarm. Days to\n"
        "notice: median day on which the feature that moved is named, and the share of shifts that are noticed at all\n"
        "where it is not all. (Half the columns is a rule without names: any alarm counts, by chance too.)"
    )
    return "\n".join([intro, "", *lines])


def _days(row: dict[str, Any], shift: str) -> str:
    day, share = row["days_to_notice"][shift], row["noticed"][shift]
    text = "never" if day is None else f"{day:g}"
    return text if share in (0.0, 1.0) else f"{text} ({share:.0%})"


_NAMES: Final = {
    "bare": "PSI > .1 for any feature",
    "evidently": "Evidently's default, any column",
    "evidently_dataset": "Evidently's default, half the columns",
    "ours": "ours (2 of 3 days, chance and effect)",
}
