"""A simulated world of telephone customers: those whom a list of each day asks about, and who of them leaves.

The columns and their values are those of the telco table that `bentos/usecases/churn/usecase.toml` reads, and the
shares and prices are near it. Who leaves is our own rule: a log-odds of contract, connection, time as a customer and
price, with interactions that a straight line cannot follow. Every day draws from a seed of its own, so any range of
days equals that part of a longer world.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
from numpy.random import PCG64, Generator, SeedSequence
from numpy.typing import NDArray

from bentos.usecase.definition import Shift, SimulatorOptions

_STREAM = 100
"""Apart from the streams of the card world, which share the seed."""
OFFICE_OPENS, OFFICE_CLOSES = 8 * 3600, 18 * 3600
RIVAL_LOG_ODDS = 3.5
"""What one unit of a rival's offer adds to the log-odds of a fibre customer on a long contract."""
UNSEEN = 1.0
"""Spread of the log-odds by reasons that no column tells."""
LONGEST_TENURE = 72
ADD_ONS = ("OnlineSecurity", "OnlineBackup", "DeviceProtection", "TechSupport", "StreamingTV", "StreamingMovies")
COLUMNS = (
    "customerID", "gender", "SeniorCitizen", "Partner", "Dependents", "tenure", "PhoneService", "MultipleLines",
    "InternetService", *ADD_ONS, "Contract", "PaperlessBilling", "PaymentMethod", "MonthlyCharges", "TotalCharges",
)  # fmt: skip
"""The columns of the telco table but its label."""
ADD_ON_PRICES = (5.0, 5.0, 5.0, 5.0, 10.0, 10.0)
_CONTRACTS = ("Month-to-month", "One year", "Two year")
_CONTRACT_OF = {"DSL": (0.51, 0.24, 0.25), "Fiber optic": (0.69, 0.17, 0.14), "No": (0.34, 0.24, 0.42)}
_PRICE_OF = {"DSL": 40.0, "Fiber optic": 65.0, "No": 15.0}
_PAYMENTS = ("Electronic check", "Mailed check", "Bank transfer (automatic)", "Credit card (automatic)")

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


def simulate_customers(options: SimulatorOptions, start: int = 0, stop: int | None = None) -> pd.DataFrame:
    """Customers of the days ``start`` (included) to ``stop`` (excluded), counted from 0.

    Returns the columns of the telco table but ``Churn``, and ``event_id``, ``event_time`` (UTC, whole seconds),
    ``leaves`` (0 or 1, of the 30 days that follow) and ``tempted`` (whether a rival's offer reaches the customer;
    it is part of the answer key). Sorted by time. Days outside the world are left out.
    """
    last = options.days if stop is None else min(stop, options.days)
    days = [_one_day(options, day) for day in range(max(start, 0), last)]
    return pd.concat(days, ignore_index=True) if days else _one_day(options, 0).iloc[:0]


def _one_day(options: SimulatorOptions, day: int) -> pd.DataFrame:
    rng = Generator(PCG64(SeedSequence(options.seed, spawn_key=(_STREAM, day))))
    n = options.customers_a_day
    people, charges = _people(rng, n), _Factors.on(options, day)
    bills = _bills(rng, people, charges.price)
    tempted = (people["InternetService"] == "Fiber optic") & (people["Contract"] != _CONTRACTS[0])
    odds = _log_odds(people, bills) + np.where(tempted, RIVAL_LOG_ODDS * charges.rival, 0.0)
    odds = odds + rng.normal(0.0, UNSEEN, n)
    leaves = rng.random(n) < 1.0 / (1.0 + np.exp(-odds))
    seconds = np.sort(rng.integers(OFFICE_OPENS, OFFICE_CLOSES, n))
    midnight = np.datetime64(options.start + timedelta(days=day), "us")
    times = pd.Series(midnight + seconds.astype("timedelta64[s]")).dt.as_unit("us").dt.tz_localize("UTC")
    date = f"{options.start + timedelta(days=day):%Y%m%d}"
    ids = pd.Series([f"c-{date}-{number:04d}" for number in range(n)], dtype=object)
    answer = {"leaves": leaves.astype(np.int8), "tempted": tempted & (charges.rival > 0.0)}
    return pd.DataFrame({"event_id": ids, "event_time": times, "customerID": ids} | people | bills | answer)


class _Factors:
    """What the declared shifts make of prices and of a rival on one day."""

    def __init__(self, price: float, rival: float) -> None:
        self.price, self.rival = price, rival

    @classmethod
    def on(cls, options: SimulatorOptions, day: int) -> _Factors:
        active: list[Shift] = [s for s in options.shifts if s.day <= day]
        price = float(np.prod([s.factor for s in active if s.kind == "price_rise"]))
        return cls(price, sum(s.factor for s in active if s.kind == "rival_offer"))


def _people(rng: Generator, n: int) -> dict[str, Any]:
    """Who they are and what they have."""
    internet = rng.choice(list(_CONTRACT_OF), n, p=(0.34, 0.44, 0.22)).astype(object)
    limits = np.cumsum([_CONTRACT_OF[kind] for kind in internet], axis=1)
    contract = np.array(_CONTRACTS, dtype=object)[(rng.random((n, 1)) > limits[:, :2]).sum(axis=1)]
    bound = contract != _CONTRACTS[0]
    partner = rng.random(n) < 0.48
    phone = (internet != "DSL") | (rng.random(n) < 0.72)
    check = np.where((internet == "Fiber optic") & ~bound, 0.55, 0.22)
    payment = np.where(rng.random(n) < check, 0, rng.integers(1, 4, n))
    people: dict[str, Any] = {
        "gender": _yes_or_no(rng.random(n) < 0.5, "Female", "Male"),
        "SeniorCitizen": (rng.random(n) < 0.16).astype(np.int8),
        "Partner": _yes_or_no(partner),
        "Dependents": _yes_or_no(rng.random(n) < np.where(partner, 0.5, 0.11)),
        "tenure": _tenure(rng, contract),
        "PhoneService": _yes_or_no(phone),
        "MultipleLines": np.where(phone, _yes_or_no(rng.random(n) < 0.47), "No phone service"),
        "InternetService": internet,
    }
    for name in ADD_ONS:
        has = _yes_or_no(rng.random(n) < np.where(bound, 0.55, 0.3))
        people[name] = np.where(internet == "No", "No internet service", has)
    people["Contract"] = contract
    people["PaperlessBilling"] = _yes_or_no(rng.random(n) < np.where(internet == "No", 0.3, 0.67))
    people["PaymentMethod"] = np.array(_PAYMENTS, dtype=object)[payment]
    return people


def _tenure(rng: Generator, contract: NDArray[np.object_]) -> NDArray[np.int64]:
    """Months as a customer: the longer the contract, the longer."""
    n = len(contract)
    months = np.select(
        [contract == _CONTRACTS[0], contract == _CONTRACTS[1]],
        [rng.exponential(18.0, n), rng.normal(42.0, 18.0, n)],
        LONGEST_TENURE - rng.exponential(14.0, n),
    )
    return np.clip(np.round(months), 0, LONGEST_TENURE).astype(np.int64)


def _bills(rng: Generator, people: dict[str, Any], price: float) -> dict[str, Any]:
    """The charge of this month, and all charges so far, which were made at the prices of their time."""
    n = len(people["tenure"])
    usual = np.array([_PRICE_OF[kind] for kind in people["InternetService"]]) + 5.0 * (people["PhoneService"] == "Yes")
    usual = usual + 5.0 * (people["MultipleLines"] == "Yes") + rng.normal(0.0, 1.5, n)
    for name, cost in zip(ADD_ONS, ADD_ON_PRICES, strict=True):
        usual = usual + cost * (people[name] == "Yes")
    # One in eight was put on a dearer tariff a short while ago.
    dearer = np.where(rng.random(n) < 0.125, rng.uniform(1.08, 1.25, n), 1.0)
    total = people["tenure"] * usual * rng.normal(1.0, 0.02, n)
    return {
        "MonthlyCharges": np.round(usual * dearer * price, 2),
        "TotalCharges": np.where(people["tenure"] > 0, np.round(total, 2), np.nan),
    }


def _log_odds(people: dict[str, Any], bills: dict[str, Any]) -> Floats:
    """Of leaving, without a rival."""
    fibre, dsl = people["InternetService"] == "Fiber optic", people["InternetService"] == "DSL"
    is_monthly, tenure = people["Contract"] == _CONTRACTS[0], people["tenure"]
    monthly, past = bills["MonthlyCharges"], np.nan_to_num(bills["TotalCharges"]) / np.maximum(tenure, 1)
    has_risen = (past > 0.0) & (monthly > 1.06 * past)
    odds = -1.3 - 1.5 * (people["Contract"] == _CONTRACTS[1]) - 2.6 * (people["Contract"] == _CONTRACTS[2])
    odds = odds + 0.8 * fibre - 0.9 * (people["InternetService"] == "No") - 0.035 * np.minimum(tenure, 40)
    odds = odds + 1.1 * (is_monthly & (tenure <= 6)) + 0.4 * has_risen + 0.5 * (has_risen & is_monthly)
    # Fibre without support, and copper at the price of fibre, are what people run away from.
    odds = odds + 1.0 * (fibre & (people["TechSupport"] == "No") & (people["OnlineSecurity"] == "No"))
    odds = odds + 1.2 * (dsl & (monthly > 65.0)) - 0.8 * (fibre & (monthly < 82.0))
    odds = odds + 0.6 * (people["PaymentMethod"] == _PAYMENTS[0]) + 0.3 * (people["PaperlessBilling"] == "Yes")
    return np.asarray(odds + 0.3 * people["SeniorCitizen"] - 0.3 * (people["Dependents"] == "Yes"), np.float64)


def _yes_or_no(true: Flags, yes: str = "Yes", no: str = "No") -> NDArray[np.object_]:
    return np.where(true, yes, no).astype(object)
