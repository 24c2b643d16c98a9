"""``python -m tests.bench serving``: the service beside other ways to serve the same model, side by side in one run.

Rounds take turns (every server once, then every server again), so that whatever else the machine does
falls on all of them. Figures are medians over rounds; ratios are made within a round.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from dataclasses import field as made_by
from pathlib import Path
from typing import Any

from flows.drills.load.bodies import events_of
from flows.drills.load.load_generator import LoadRound
from flows.drills.load.run_load import run_load
from tests.bench.serving.lag import LagWatch
from tests.bench.serving.profiling import profiled
from tests.bench.serving.rounds import (
    OURS,
    RIVALS,
    Round,
    Rounds,
    machine,
    ratios,
    relative_cost,
    round_json,
    said,
    summaries,
)
from tests.bench.serving.servers import Field, Server, running_field

Notice = Callable[[str], None]
CONNECTIONS = (1, 8, 32, 64)
LAG_LIMIT = 5.0
"""Seconds that the database may be behind at the end of a round; else the round is void and repeated."""
SOAK_RATE = 1000.0
_REPEATS = 2
_DRAIN_SECONDS = 15.0
_HEADROOM = 16_000
"""Events a second for which different bodies are made."""


@dataclass(frozen=True)
class BenchPlan:
    """What is measured.

    Attributes:
        connections: closed loops.
        rounds: of each.
        seconds: measured time of a round; ``warm_up`` seconds go before it.
        open_seconds: of each trial of an open loop; 0 leaves the search out.
        open_servers: whose highest rate is searched.
        soak: seconds at 1,000 events a second; 0 leaves it out.
        budget: seconds after which no further trial is begun; closed loops take three quarters of it at most.
        servers: only these, if any are named.
        profile: whether to look where the time of ours goes.
    """

    connections: Sequence[int] = CONNECTIONS
    rounds: int = 3
    seconds: float = 5.0
    warm_up: float = 1.0
    open_seconds: float = 6.0
    open_servers: Sequence[str] = (*OURS, "ours_batch100", *RIVALS)
    soak: float = 600.0
    budget: float = float("inf")
    servers: Sequence[str] = ()
    profile: bool = False


QUICK = BenchPlan((32,), 3, 3.0, 0.7, 3.0, ("ours_event",), 0.0, 240.0)


@dataclass
class Bench:
    """A bench under way.

    Attributes:
        field: who takes part.
        plan: what is measured.
        notice: told what happens.
        started: when it began, to keep to the budget.
    """

    field: Field
    plan: BenchPlan
    notice: Notice
    started: float = made_by(default_factory=time.monotonic)
    _serial: int = 0
    _sent: dict[str, int] = made_by(default_factory=dict)

    def round(self, server: Server, connections: int, seconds: float, rate: float | None = None) -> Round:
        """One round of one server; one whose scribe fell behind is void and repeated."""
        found = self._once(server, connections, seconds, rate)
        for _ in range(_REPEATS):
            if not found.void:
                break
            self.notice(f"{server.name}: the scribe was {found.lag_s:.1f} s behind; the round is repeated")
            found = self._once(server, connections, seconds, rate)
        return found

    def _once(self, server: Server, connections: int, seconds: float, rate: float | None) -> Round:
        key = server.group.name
        expected = _HEADROOM if rate is None else rate * events_of(server.kind)
        count = int((seconds + self.plan.warm_up) * expected / events_of(server.kind)) + 1
        self._serial += 1
        load = LoadRound(
            server.port, server.path, self.field.body(server, count, self._sent.get(key, 0)), connections, seconds,
            self.plan.warm_up, rate, f"b{self._serial:04d}-", server.echo_ids, holds=server.holds,
        )  # fmt: skip
        with self.field.awake(server.group):
            before = server.group.cpu_seconds()
            held = 0 if server.group.home is None else LagWatch(server.group.home).stored()
            measured = run_load(load)
            spent = [b - a for a, b in zip(before, server.group.cpu_seconds(), strict=True)]
            share = 1e6 / max(1, measured.requests)
            found = Round(measured, os.getloadavg()[0], spent[0] * share, sum(spent[1:]) * share)
            if server.group.home is not None:
                self._look_at_log(server, found, held)
        self._sent[key] = self._sent.get(key, 0) + measured.events
        return found

    def _look_at_log(self, server: Server, found: Round, held: int) -> None:
        """Lag at the end of the load, then let log and shadow catch up, so that the next round starts level.

        ``held`` is what the log had before. Where not all of the round arrives, the scribe is dead or far behind.
        """
        assert server.group.home is not None
        watch = LagWatch(server.group.home)
        behind, here = watch.lag(), watch.stored()
        found.shadow_pending = watch.shadow_pending()
        stored, before, deadline = here, -1, time.monotonic() + _DRAIN_SECONDS
        while stored != before and time.monotonic() < deadline:
            time.sleep(0.5)
            before, stored = stored, watch.stored()
        while watch.shadow_pending() and time.monotonic() < deadline:
            time.sleep(0.5)
        sent = found.measured.events - found.measured.errors * events_of(server.kind)
        arrived = stored - held >= 0.99 * sent
        # Where all was there at the first look, the age of the newest record was idleness, not lag.
        found.lag_s = behind if stored > here or not arrived else 0.0
        found.void = found.lag_s >= LAG_LIMIT or not arrived

    def over(self, share: float = 1.0) -> bool:
        """Whether the budget, or a share of it, is spent."""
        return time.monotonic() - self.started > share * self.plan.budget


def bench_serving(root: Path, plan: BenchPlan, notice: Notice) -> dict[str, Any]:
    """Measure everything and return the JSON of ``docs/reference/benchmarks.md``.

    Args:
        root: folder for models, homes and logs of the servers.
        plan: what is measured.
        notice: told what happens, for people.
    """
    started = time.monotonic()
    with running_field(root, notice, plan.servers) as found:
        bench = Bench(found, plan, notice, started)
        closed = {str(c): closed_loop(bench, c) for c in plan.connections}
        lone = lone_request(bench)
        opened = {} if not plan.open_seconds else open_loop(bench, closed)
        soak = soaked(bench)
        profiles = {} if not plan.profile else profiled(root, found, notice)
    last = closed.get("32") or next(iter(closed.values()))
    return {
        "closed": {c: summaries(rounds) for c, rounds in closed.items()},
        "open": opened,
        "shadow_cost": relative_cost(last, "ours_event", "ours_no_shadow"),
        "explain_cost": relative_cost(last, "ours_explain", "ours_event"),
        "ratios": ratios(last),
        "lone_request": lone,
        "soak": soak,
        "profile": profiles,
        "skipped": found.skipped,
        "machine": machine(),
        "seconds": round(time.monotonic() - started, 1),
    }


def closed_loop(bench: Bench, connections: int) -> Rounds:
    """Interleaved rounds of everybody."""
    rounds: Rounds = {}
    for number in range(bench.plan.rounds):
        if number and bench.over(0.75):
            break
        for server in list(bench.field.servers):
            found = bench.round(server, connections, bench.plan.seconds)
            if not found.measured.answered:
                drop(bench, server, found)
                continue
            rounds.setdefault(server.name, []).append(found)
            bench.notice(said(server.name, connections, found))
    return rounds


def drop(bench: Bench, server: Server, found: Round) -> None:
    """A server that answers nothing useful leaves, with the reason."""
    bench.field.skipped[server.name] = f"no request was answered: {found.measured.statuses}"
    bench.field.servers.remove(server)


def lone_request(bench: Bench) -> dict[str, Any]:
    """Median time of lone requests before a burst and right after it."""
    found = {}
    for name in ("ours_event", "bento_default"):
        server = bench.field.server(name)
        if server is None or bench.over():
            continue
        with bench.field.awake(server.group):
            before = run_load(_lone(bench, server, 1)).p50_ms
            run_load(_lone(bench, server, 64))
            after = run_load(_lone(bench, server, 1)).p50_ms
        found[name] = {"before_p50_ms": before, "after_p50_ms": after}
    return found


def _lone(bench: Bench, server: Server, connections: int) -> LoadRound:
    bench._serial += 1
    ids = f"b{bench._serial:04d}-"
    return LoadRound(server.port, server.path, bench.field.body(server, 20_000, 0), connections, 2.0, 0.2, None, ids)


def open_loop(bench: Bench, closed: dict[str, Rounds]) -> dict[str, Any]:
    """The highest constant rate of each server with p99 below 100 ms, and below 50 ms, and no error."""
    found = {}
    best = closed.get("32") or next(iter(closed.values()))
    for server in list(bench.field.servers):
        if server.name not in bench.plan.open_servers or server.name not in best or bench.over():
            continue
        rates = [r.measured.rps for r in best[server.name] if not r.void]
        if not rates:
            bench.field.skipped[server.name] = "its log fell behind in every closed round, so there is no open loop"
            continue
        guess = statistics.median(rates)
        found[server.name] = search_rate(bench, server, guess)
    return found


def search_rate(bench: Bench, server: Server, guess: float) -> dict[str, Any]:
    """Bracket the limit from a closed loop's rate, then halve the bracket to 5 %."""
    trials: dict[float, Round] = {}

    def good(rate: float, limit_ms: float) -> bool:
        if rate not in trials:
            trials[rate] = bench.round(server, 64, bench.plan.open_seconds, rate)
            bench.notice(f"open loop, {rate:.0f}/s: {said(server.name, 64, trials[rate])}")
        found = trials[rate]
        m = found.measured
        kept_up = m.rps >= 0.98 * rate
        return not m.errors and not m.overrun and not found.void and kept_up and m.p99_ms < limit_ms

    return {
        "max_rate": (top := bracketed(lambda rate: good(rate, 100.0), guess, over=bench.over)),
        "p99_ms": trials[top].measured.p99_ms if top in trials else None,
        "max_rate_50ms": bracketed(lambda rate: good(rate, 50.0), top or guess, over=bench.over),
        "trials": {f"{rate:.0f}": round_json(trials[rate]) for rate in sorted(trials)},
    }


def bracketed(
    good: Callable[[float], bool],
    guess: float,
    precision: float = 0.05,
    tries: int = 8,
    over: Callable[[], bool] = lambda: False,
) -> float:
    """The highest rate that is good, near ``guess`` and to ``precision``; 0 when none was, or the time was over."""
    low, high, rate = 0.0, 0.0, float(max(1.0, round(guess)))
    for number in range(tries):
        if number and over():
            break
        if good(rate):
            low = rate
            rate = float(round(rate * 1.3)) if not high else float(round((low + high) / 2))
        else:
            high = rate
            rate = float(round(rate * 0.6)) if not low else float(round((low + high) / 2))
        if rate < 1 or (low and high and high - low <= precision * low) or rate in (low, high):
            break
    return low


def soaked(bench: Bench) -> dict[str, Any] | None:
    """Raw events at 1,000 a second for a long time."""
    server = bench.field.server("ours_event")
    if server is None or not bench.plan.soak:
        return None
    found = bench._once(server, 64, bench.plan.soak, SOAK_RATE)
    bench.notice(f"soak: {said(server.name, 64, found)}")
    return {"rate": SOAK_RATE, "seconds": bench.plan.soak} | round_json(found)
