"""A simulated world of card transactions, after the Fraud Detection Handbook.

Le Borgne, Siblini, Lebichot, Bontempi, *Reproducible Machine Learning for Credit Card Fraud
Detection - Practical Handbook*, ULB 2022, chapter 3, describes the world; this is our own
vectorised implementation of it. Every day draws from seeds of its own, so any range of days equals
that part of a longer world and costs only its own days.

Differences to the description, each on purpose:

- a customer without a terminal in reach uses the nearest one;
- the numbers of compromised terminals and customers a day scale with the size of the world (2 of
  10,000 and 3 of 5,000 in the original) and are spread evenly over the days, which keeps the share
  of frauds near 0.8 % in a world of any size;
- compromises begin before the first day, so that the share is the same from the first day on;
- a customer compromised twice at once has an amount multiplied once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.random import PCG64, Generator, SeedSequence
from numpy.typing import DTypeLike, NDArray
from scipy.spatial import cKDTree

from bentos.usecase.definition import Shift, SimulatorOptions

SIDE = 100.0
DAY_SECONDS = 86_400
LARGE_AMOUNT = 220.0
"""Scenario 1: an amount above this is a fraud."""
TERMINAL_DAYS, TERMINALS_A_DAY = 28, 2 / 10_000
"""Scenario 2: share of terminals compromised each day, and for how long."""
CUSTOMER_DAYS, CUSTOMERS_A_DAY = 14, 3 / 5_000
"""Scenario 3: share of customers compromised each day, and for how long."""
STOLEN_SHARE, STOLEN_FACTOR = 1 / 3, 5.0
"""Scenario 3: share of their transactions that are frauds, and the factor on the amount."""
BURST_SIZE = (8, 17)
BURST_HOURS = (0.5, 5.0)
BURST_GAP_SECONDS = 60.0
BURST_AMOUNT = (0.5, 5.0)
"""Scenario 4, card testing: transactions a card, hour of the first, mean gap, amounts."""

_WORLD, _DAY, _TERMINALS, _CUSTOMERS, _BURSTS = range(5)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class World:
    """What does not change from day to day.

    Attributes:
        options: size, seed, shifts.
        mean_amount: mean amount of each customer, uniform on 5..100.
        rate: transactions a day of each customer, uniform on 0..4.
        reach: the terminals of all customers one after the other.
        first: where each customer's terminals begin in ``reach`` (one longer than the customers).
    """

    options: SimulatorOptions
    mean_amount: Floats
    rate: Floats
    reach: Ints
    first: Ints


def make_world(options: SimulatorOptions) -> World:
    """Place customers and terminals on the square and find who uses which terminal."""
    rng = _generator(options, _WORLD)
    homes = rng.uniform(0.0, SIDE, (options.customers, 2))
    places = rng.uniform(0.0, SIDE, (options.terminals, 2))
    tree = cKDTree(places)
    reach = tree.query_ball_point(homes, options.radius, return_sorted=True)
    nearest = np.atleast_1d(tree.query(homes)[1])
    lists = [np.asarray(near or [alone], np.int64) for near, alone in zip(reach, nearest, strict=True)]
    return World(
        options=options,
        mean_amount=rng.uniform(5.0, 100.0, options.customers),
        rate=rng.uniform(0.0, 4.0, options.customers),
        reach=np.concatenate(lists),
        first=np.concatenate([[0], np.cumsum([len(x) for x in lists])]).astype(np.int64),
    )


def simulate(world: World, start: int = 0, stop: int | None = None) -> pd.DataFrame:
    """Transactions of the days ``start`` (included) to ``stop`` (excluded), counted from 0.

    Returns a frame sorted by time with ``event_id`` (unique in the world), ``event_time`` (UTC, whole
    seconds), ``customer_id``, ``terminal_id``, ``amount`` (whole cents), ``fraud`` (int8) and
    ``scenario`` (int8; 0 is genuine). Days outside the world are left out.
    """
    last = world.options.days if stop is None else min(stop, world.options.days)
    return _frame(world.options, {d: _one_day(world, d) for d in range(max(start, 0), last)})


@dataclass(frozen=True)
class _Day:
    """One day's transactions: second of the day, indices of customer and terminal, amount, scenario."""

    second: Ints
    customer: Ints
    terminal: Ints
    amount: Floats
    scenario: NDArray[np.int8]


def _one_day(world: World, day: int) -> _Day:
    base, draw = _transactions(world, day)
    on_bad_terminal = _compromise_mask(world, "terminals", day)[base.terminal]
    stolen = _compromise_mask(world, "customers", day)[base.customer] & (draw < STOLEN_SHARE)
    large = np.where(base.amount > LARGE_AMOUNT, 1, 0)
    scenario = np.where(stolen, 3, np.where(on_bad_terminal, 2, large)).astype(np.int8)
    amount = np.where(stolen, base.amount * STOLEN_FACTOR, base.amount)
    parts = (_Day(base.second, base.customer, base.terminal, amount, scenario), _bursts(world, day))
    # Amounts scale after frauds are chosen: the world gets dearer, thieves do not get busier.
    scale = float(np.prod([s.factor for s in _active(world.options, "amount_scale", day)]))
    second = np.concatenate([p.second for p in parts])
    order = np.argsort(second, kind="stable")
    return _Day(
        second=second[order],
        customer=np.concatenate([p.customer for p in parts])[order],
        terminal=np.concatenate([p.terminal for p in parts])[order],
        amount=np.round(np.concatenate([p.amount for p in parts])[order] * scale, 2),
        scenario=np.concatenate([p.scenario for p in parts])[order],
    )


def _transactions(world: World, day: int) -> tuple[_Day, Floats]:
    """A day without fraud, and one uniform draw a transaction; times outside the day are dropped."""
    rng = _generator(world.options, _DAY, day)
    customer = np.repeat(np.arange(world.options.customers), rng.poisson(world.rate))
    n = len(customer)
    mean = world.mean_amount[customer]
    raw_amount = rng.normal(mean, mean / 2)
    amount = np.asarray(np.round(np.where(raw_amount < 0, rng.uniform(0.0, 2 * mean), raw_amount), 2), np.float64)
    choices = world.first[customer + 1] - world.first[customer]
    terminal = world.reach[world.first[customer] + np.floor(rng.random(n) * choices).astype(np.int64)]
    second = np.trunc(rng.normal(DAY_SECONDS / 2, 20_000, n)).astype(np.int64)
    draw = rng.random(n)
    in_day = (second > 0) & (second < DAY_SECONDS)
    genuine = np.zeros(int(in_day.sum()), np.int8)
    return _Day(second[in_day], customer[in_day], terminal[in_day], amount[in_day], genuine), draw[in_day]


def _bursts(world: World, day: int) -> _Day:
    """Scenario 4, card testing: at night stolen cards are tried with small amounts, at terminals anywhere."""
    rng = _generator(world.options, _BURSTS, day)
    rates = [sum(s.factor for s in _active(world.options, "fraud_scenario", d)) for d in range(day + 1)]
    cards = rng.permutation(world.options.customers)[: _count_today(rates)]
    size = rng.integers(*BURST_SIZE, len(cards))
    n = int(size.sum())
    gaps = np.cumsum(rng.exponential(BURST_GAP_SECONDS, n))
    gaps_before = np.concatenate([np.zeros(1), gaps])[np.cumsum(size) - size]
    begin = rng.uniform(*BURST_HOURS, len(cards)) * 3600 - gaps_before
    return _Day(
        second=(np.repeat(begin, size) + gaps).astype(np.int64),
        customer=np.repeat(cards, size),
        terminal=rng.integers(0, world.options.terminals, n),
        amount=np.round(rng.uniform(*BURST_AMOUNT, n), 2),
        scenario=np.full(n, 4, np.int8),
    )


_Kind = Literal["terminals", "customers"]


def _compromise_mask(world: World, kind: _Kind, day: int) -> NDArray[np.bool_]:
    """Which terminals or customers are compromised on a day, as a mask over all of them."""
    options = world.options
    size = options.terminals if kind == "terminals" else options.customers
    length = TERMINAL_DAYS if kind == "terminals" else CUSTOMER_DAYS
    mask = np.zeros(size, bool)
    for since in range(day - length + 1, day + 1):
        mask[_newly_compromised(options, kind, since)] = True
    return mask


@lru_cache(maxsize=4096)
def _newly_compromised(options: SimulatorOptions, kind: _Kind, day: int) -> Ints:
    """The terminals or customers whose compromise starts on ``day`` (which may lie before day 0)."""
    share = TERMINALS_A_DAY if kind == "terminals" else CUSTOMERS_A_DAY
    size = options.terminals if kind == "terminals" else options.customers
    rates = [share * size * _fraud_rate(options, d) for d in range(-TERMINAL_DAYS, day + 1)]
    stream = _TERMINALS if kind == "terminals" else _CUSTOMERS
    return _generator(options, stream, day).permutation(size)[: _count_today(rates)].astype(np.int64)


def _count_today(rates: list[float]) -> int:
    """How many of a steady trickle fall on the last day: 0.4 a day gives 0, 0, 1, 0, 1, ..."""
    total = sum(rates)
    # The small number keeps 5 x 0.4 from falling short of 2.
    return math.floor(total + 1e-9) - math.floor(total - rates[-1] + 1e-9)


def _fraud_rate(options: SimulatorOptions, day: int) -> float:
    return math.prod(s.factor for s in _active(options, "fraud_rate", day))


def _active(options: SimulatorOptions, kind: str, day: int) -> list[Shift]:
    return [s for s in options.shifts if s.kind == kind and s.day <= day]


def _generator(options: SimulatorOptions, stream: int, day: int = 0) -> Generator:
    """A generator for one purpose on one day; days before 0 are shifted into the allowed range."""
    return Generator(PCG64(SeedSequence(options.seed, spawn_key=(stream, day + TERMINAL_DAYS))))


def _frame(options: SimulatorOptions, days: dict[int, _Day]) -> pd.DataFrame:
    first = np.datetime64(options.start, "us")
    times = [first + np.timedelta64(d, "D") + x.second.astype("timedelta64[s]") for d, x in days.items()]
    dates = {d: f"t-{options.start + timedelta(days=d):%Y%m%d}-" for d in days}
    ids = [f"{dates[d]}{i:05d}" for d, x in days.items() for i in range(len(x.second))]
    scenario = _concatenate([x.scenario for x in days.values()], np.int8)
    return pd.DataFrame(
        {
            "event_id": pd.Series(ids, dtype=object),
            "event_time": pd.Series(_concatenate(times, "datetime64[us]")).dt.tz_localize("UTC"),
            "customer_id": _names("c", options.customers)[_concatenate([x.customer for x in days.values()], np.int64)],
            "terminal_id": _names("m", options.terminals)[_concatenate([x.terminal for x in days.values()], np.int64)],
            "amount": _concatenate([x.amount for x in days.values()], np.float64),
            "fraud": (scenario > 0).astype(np.int8),
            "scenario": scenario,
        }
    )


def _concatenate(parts: list[Any], dtype: DTypeLike) -> NDArray[Any]:
    return np.concatenate([np.empty(0, dtype), *parts]).astype(dtype, copy=False)


def _names(prefix: str, count: int) -> NDArray[np.object_]:
    return np.array([f"{prefix}-{i:04d}" for i in range(count)], dtype=object)
