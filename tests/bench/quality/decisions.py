"""How often decisions err, how soon they come, and how fast a million paired rows are compared."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bentos.usecase.definition import UseCase
from flows.steps.comparison.judge_file import JudgeOptions, file_plan, judge_rows, read_pairs, read_table
from monitoring.comparison.simulation import (
    SimulatedTraffic,
    daily_bounds,
    first_day,
    promoting_days,
)
from monitoring.policies.promotion import PromotionPolicy
from tests.bench.quality.naive_tests import legacy_t, naive_mcnemar, naive_t

DAYS = 60
POSITIVES = 100.0
DISCORDANCE = 0.06
CAMPAIGN = 3.0
"""Mean size of a fraud campaign in the clustered case; McNemar's single look then errs in 38 % of cases."""
FIRST_LOOK = 7
"""Matured day from which the naive rules look."""
EFFECTS = (0.01, 0.02, 0.03)
POWER_DAYS = (14, 28, 60)
ONE_DAY, ONE_EFFECT, RECALL = 14, 0.02, 0.85
"""Of the customary tests, which look once."""
_CHUNK = 250
_START = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())
BEGIN, END = "<!-- decisions:begin -->", "<!-- decisions:end -->"

Told = Callable[[str], None]


def bench_decisions(
    usecase: UseCase, *, trials: int = 4000, rows: int = 1_000_000, seed: int = 7, told: Told = lambda _: None
) -> dict[str, Any]:
    """Simulate, then time.

    Args:
        usecase: whose policies judge the timed rows.
        trials: simulated comparisons of each case.
        rows: paired rows of the timing; 0 leaves it out.
        seed: of everything random.
        told: is told what is measured.

    Returns:
        ``false_promotion``: rule to case to the share of comparisons of two equal models in which one of
        them is declared better on any of 60 daily looks; ``challenger_promoted``: the share in which the
        whole recall rule promotes the challenger; ``one_look``: the customary tests on a single look at day
        14, how often they speak with equal models and with a gain of .02; ``power``: rule to effect to
        matured day to the share promoted by then; ``paired_rows``, ``paired_s``, ``read_s``, ``decode_s``,
        ``paired_over_read``.
    """
    told("two equal models, looked at every day")
    found: dict[str, Any] = {"false_promotion": {}, "challenger_promoted": {}}
    for case, clusters in (("iid", 1.0), ("clustered", CAMPAIGN)):
        for rule, (declared, promoted) in error_rates(clusters, trials, seed).items():
            found["false_promotion"].setdefault(rule, {})[case] = declared
            if promoted is not None:
                found["challenger_promoted"].setdefault(rule, {})[case] = promoted
    found["one_look"] = one_look(trials, seed)
    told("a better challenger, looked at every day")
    found["power"] = power_table(trials, seed)
    found |= {"trials": trials, "days": DAYS, "positives_per_day": POSITIVES, "discordance": DISCORDANCE}
    if rows:
        told(f"{rows:,} paired rows")
        found |= time_pairs(usecase, rows, seed)
    return found


def rules() -> dict[str, PromotionPolicy]:
    """The two rules of the product, with their defaults."""
    return {"anytime": PromotionPolicy(), "lan_demets": PromotionPolicy(method="lan_demets", max_shadow_days=70)}


def error_rates(clusters: float, trials: int, seed: int) -> dict[str, tuple[float, float | None]]:
    """Of two equal models: how often one is declared better, and how often our rule promotes."""
    wrong: dict[str, list[np.ndarray]] = {}
    for positives, only_b, only_a in _parts(SimulatedTraffic(POSITIVES, DISCORDANCE, 0.0, clusters), trials, seed):
        gained = only_b - only_a
        late = np.arange(1, DAYS + 1) >= FIRST_LOOK
        wrong.setdefault("naive", []).append((naive_mcnemar(only_b, only_a) < 0.05) & late)
        wrong.setdefault("naive_paired_t", []).append((naive_t(gained) < 0.05) & late)
        for name, policy in rules().items():
            declared = (daily_bounds(gained, policy) > 0.0) | (daily_bounds(-gained, policy) > 0.0)
            wrong.setdefault(name, []).append(declared)
            wrong.setdefault(f"{name} promotes", []).append(promoting_days(positives, gained, policy))
    share = {name: float(np.mean(np.concatenate([p.any(axis=1) for p in parts]))) for name, parts in wrong.items()}
    return {
        name: (value, share.get(f"{name} promotes")) for name, value in share.items() if not name.endswith("promotes")
    }


def one_look(trials: int, seed: int) -> dict[str, dict[str, float]]:
    """How often the paired and the unpaired t-test of days speak on one look at day 14, by true effect."""
    found: dict[str, dict[str, float]] = {"paired_t": {}, "unpaired_t": {}}
    for effect in (0.0, ONE_EFFECT):
        positives, a, b = SimulatedTraffic(POSITIVES, DISCORDANCE, effect).caught(trials, ONE_DAY, seed, RECALL)
        found["paired_t"][f"{effect:g}"] = float(np.mean(naive_t(b - a)[:, -1] < 0.05))
        found["unpaired_t"][f"{effect:g}"] = float(np.mean(legacy_t(positives, a, b) < 0.05))
    return found


def power_table(trials: int, seed: int) -> dict[str, dict[str, dict[str, float]]]:
    """Share promoted by a matured day, by rule and true effect."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for effect in EFFECTS:
        ended: dict[str, list[np.ndarray]] = {}
        for positives, only_b, only_a in _parts(SimulatedTraffic(POSITIVES, DISCORDANCE, effect), trials, seed + 1):
            for name, policy in rules().items():
                ended.setdefault(name, []).append(first_day(promoting_days(positives, only_b - only_a, policy)))
        for name, parts in ended.items():
            day = np.concatenate(parts)
            row = {str(limit): float(np.mean((day > 0) & (day <= limit))) for limit in POWER_DAYS}
            found.setdefault(name, {})[f"{effect:g}"] = row
    return found


def time_pairs(usecase: UseCase, rows: int, seed: int, rounds: int = 3) -> dict[str, Any]:
    """Seconds to read paired rows from Parquet, and to compare them; medians of some rounds.

    Reading ends with matured rows that have both decisions and a label; ``decode_s`` is the part of it in
    which Parquet becomes a frame. Comparing is everything after: daily series, bounds, verdict, and the
    whole appendix with 2,000 repetitions of its bootstrap.
    """
    with tempfile.TemporaryDirectory(prefix="incumbent-pairs-") as folder:
        file = Path(folder) / "pairs.parquet"
        paired_table(rows, seed).to_parquet(file, index=False)
        asked = JudgeOptions(thresholds=(0.3, 0.3), as_of=datetime(2026, 4, 1, tzinfo=UTC))
        decode, read, compare = [], [], []
        for _ in range(rounds):
            decode.append(_seconds(lambda: read_table(usecase, file, asked)))
            begun = time.perf_counter()
            reading = read_pairs(usecase, file, asked)
            read.append(time.perf_counter() - begun)
            begun = time.perf_counter()
            judge_rows(reading, file_plan(usecase, reading))
            compare.append(time.perf_counter() - begun)
    names = {"paired_s": compare, "read_s": read, "decode_s": decode}
    found = {name: round(statistics.median(values), 4) for name, values in names.items()}
    ratio = statistics.median(compare) / statistics.median(read)
    return {"paired_rows": rows, **found, "paired_over_read": round(ratio, 3)}


def paired_table(rows: int, seed: int) -> pd.DataFrame:
    """Events of sixty days with two scores, labels of the positives and when they came."""
    rng = np.random.default_rng(seed)
    seconds = np.sort(rng.integers(0, DAYS * 86_400, rows)) + _START
    at = pd.to_datetime(seconds, unit="s", utc=True).as_unit("us")
    y = rng.random(rows) < 0.008
    first = np.clip(rng.beta(1, 30, rows) + y * rng.beta(3, 3, rows) * 0.8, 0, 1)
    return pd.DataFrame(
        {
            "event_id": np.char.add("t-", np.arange(rows).astype(str)).astype(object),
            "event_time": at,
            "score_a": first,
            "score_b": np.clip(first + rng.normal(0, 0.01, rows) + y * 0.01, 0, 1),
            "label": np.where(y, 1.0, np.nan),
            "label_time": (at + timedelta(days=3)).where(y),
        }
    )


def write_tables(found: dict[str, Any], file: Path) -> None:
    """Put the tables between the markers of a page; the rest of the page stays as it is.

    Raises:
        ValueError: the page lacks the markers.
    """
    text = file.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        raise ValueError(f"{file} has no lines {BEGIN} and {END} to write between")
    head, rest = text.split(BEGIN, 1)
    tail = rest.split(END, 1)[1]
    file.write_text(f"{head}{BEGIN}\n{tables(found)}\n{END}{tail}", encoding="utf-8")


def tables(found: dict[str, Any]) -> str:
    """Both tables as Markdown."""
    base = (
        f"{found['trials']:,} simulated comparisons for each figure, {found['days']} days, "
        f"Poisson({found['positives_per_day']:g}) positives a day, discordance {found['discordance']:g}; daily looks."
    )
    wrong = ["| rule | iid | clustered |", "|---|---|---|"]
    for name, row in found["false_promotion"].items():
        wrong.append(f"| {_NAMES[name]} | {row['iid']:.3f} | {row['clustered']:.3f} |")
    for name, row in found["challenger_promoted"].items():
        wrong.append(f"| {_NAMES[name]}: promoted | {row['iid']:.4f} | {row['clustered']:.4f} |")
    power = ["| rule | gain in recall | " + " | ".join(f"by day {d}" for d in POWER_DAYS) + " |"]
    power.append("|---" * (2 + len(POWER_DAYS)) + "|")
    for name, effects in found["power"].items():
        for effect, row in effects.items():
            power.append(f"| {_NAMES[name]} | +{effect} | " + " | ".join(f"{v:.3f}" for v in row.values()) + " |")
    return "\n".join(
        [base, "", "Two equal models: how often one of them is declared better on any day. The last rows count the",
         "comparisons in which the whole rule (14 days, 200 positives, a gain of .01) promotes the challenger.", "",
         *wrong, "", *_once(found["one_look"]), "", "A better challenger: share promoted by a matured day.", "", *power]
    )  # fmt: skip


def _once(found: dict[str, dict[str, float]]) -> list[str]:
    """The customary tests on one look, as a sentence."""
    paired, unpaired = (found[name][f"{ONE_EFFECT:g}"] for name in ("paired_t", "unpaired_t"))
    return [
        f"On one look at day {ONE_DAY}, at a recall of {RECALL:g}, the paired t-test finds a gain of {ONE_EFFECT:g} in",
        f"{paired:.1%} of comparisons and the unpaired one in {unpaired:.1%} of the same comparisons.",
    ]


_NAMES = {
    "naive": f"McNemar mid-p < .05, daily from day {FIRST_LOOK}",
    "naive_paired_t": f"paired t of days, p < .05, daily from day {FIRST_LOOK}",
    "anytime": "anytime-valid t (default)",
    "lan_demets": "Lan-DeMets on days 14, 28, 42, 56",
}


def _parts(traffic: SimulatedTraffic, trials: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The trials, a few hundred at a time, so that campaigns fit into memory."""
    for number, start in enumerate(range(0, trials, _CHUNK)):
        yield traffic.pairs(min(_CHUNK, trials - start), DAYS, seed * 100_003 + number)


def _seconds(action: Callable[[], object]) -> float:
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun
