"""What the bench's rounds say together: medians, ratios within rounds, a table for people."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from flows.drills.load.load_generator import RoundFigures

OURS = ("ours_vector", "ours_event")
RIVALS = ("fastapi", "bento_default", "mlserver", "mlflow_serve", "asgi_echo")


@dataclass
class Round:
    """One server's round.

    Attributes:
        measured: what the load generator says.
        load_average: of the machine, when the round ended.
        cpu_us, log_cpu_us: processor time a request of the server, and of what ships its log (ours only).
        lag_s: how far the database was behind at the end (ours only).
        shadow_pending: events that the challenger had still to score then.
        void: the log was too far behind for the round to count.
    """

    measured: RoundFigures
    load_average: float = 0.0
    cpu_us: float = 0.0
    log_cpu_us: float = 0.0
    lag_s: float = 0.0
    shadow_pending: int = 0
    void: bool = False


Rounds = dict[str, list[Round]]


def said(name: str, connections: int, found: Round) -> str:
    """One round in one line."""
    m = found.measured
    text = f"{name} at {connections}: {m.rps:.0f}/s, p50 {m.p50_ms:.1f}, p99 {m.p99_ms:.1f} ms, {m.errors} errors"
    text += f", {found.cpu_us:.0f} us"
    if name.startswith("ours"):
        text += f" + {found.log_cpu_us:.0f} us, log {found.lag_s:.1f} s behind, shadow {found.shadow_pending}"
    return text


def summaries(rounds: Rounds) -> dict[str, Any]:
    """Medians over rounds, errors of all of them, and the spread of the rate."""
    return {name: _summary(name, found) for name, found in rounds.items()}


def _summary(name: str, rounds: list[Round]) -> dict[str, Any]:
    valid = [r for r in rounds if not r.void]
    if not valid:
        figures = ("rps", "p50_ms", "p99_ms", "errors", "cpu_us")
        return dict.fromkeys(figures) | {"rounds": 0, "void": len(rounds)}
    measured = [r.measured for r in valid]
    rates = [m.rps for m in measured]
    result: dict[str, Any] = {
        "rps": round(statistics.median(rates), 1),
        "p50_ms": statistics.median(m.p50_ms for m in measured),
        "p99_ms": statistics.median(m.p99_ms for m in measured),
        "errors": sum(m.errors for m in measured),
        "cpu_us": round(statistics.median(r.cpu_us for r in valid), 1),
        "rps_range": [round(min(rates), 1), round(max(rates), 1)],
        "rounds": len(valid),
        "void": sum(r.void for r in rounds),
    }
    if name == "ours_batch100":
        result["events_per_s"] = round(result["rps"] * 100, 1)
    if name.startswith("ours"):
        result["log_cpu_us"] = round(statistics.median(r.log_cpu_us for r in valid), 1)
        result["lag_s"] = round(max(r.lag_s for r in valid), 3)
        result["shadow_pending"] = max(r.shadow_pending for r in valid)
    return result


def round_json(found: Round) -> dict[str, Any]:
    """A round as JSON."""
    kept = ("rps", "p50_ms", "p99_ms", "max_ms", "answered", "errors", "statuses", "overrun")
    plain = asdict(found)
    return {name: getattr(found.measured, name) for name in kept} | {
        name: plain[name] for name in ("lag_s", "shadow_pending", "void")
    }


def _per_round(rounds: Rounds, one: str, other: str, what: Callable[[RoundFigures], float]) -> Iterator[float]:
    """Quotients within each round."""
    for a, b in zip(rounds.get(one, ()), rounds.get(other, ()), strict=False):
        if not a.void and not b.void and what(b.measured) > 0:
            yield what(a.measured) / what(b.measured)


def ratios(rounds: Rounds) -> dict[str, Any]:
    """Ours against the others: rate over rate and p99 over p99, median and range over rounds."""
    found: dict[str, Any] = {}
    for mine in OURS:
        for other in RIVALS:
            rate = sorted(_per_round(rounds, mine, other, lambda m: m.rps))
            late = sorted(_per_round(rounds, mine, other, lambda m: m.p99_ms))
            if rate and late:
                found.setdefault(mine, {})[other] = {"rps": _spread(rate), "p99": _spread(late)}
    return found


def _spread(values: list[float]) -> dict[str, float]:
    median = statistics.median(values)
    return {"median": round(median, 3), "min": round(values[0], 3), "max": round(values[-1], 3)}


def relative_cost(rounds: Rounds, with_it: str, without: str) -> float | None:
    """1 - rate with / rate without: the median over rounds; none where one of them is missing."""
    quotients = list(_per_round(rounds, with_it, without, lambda m: m.rps))
    return round(1.0 - statistics.median(quotients), 4) if quotients else None


def machine() -> dict[str, Any]:
    """Where this was measured."""
    return {
        "cpus": os.cpu_count(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "load_average": round(os.getloadavg()[0], 2),
    }


def rows_for_people(found: Mapping[str, Any]) -> list[tuple[object, ...]]:
    """The closed loops as rows; see :data:`HEADERS`."""
    rows: list[tuple[object, ...]] = []
    for connections, servers in found["closed"].items():
        for name, figures in servers.items():
            against = [_times(servers, name, other) for other in ("fastapi", "mlserver")]
            own = [figures[key] for key in ("rps", "p50_ms", "p99_ms", "errors", "cpu_us")]
            rows.append((int(connections), name, *own, *against))
    return rows


HEADERS = ("conns", "server", "req/s", "p50 ms", "p99 ms", "errors", "cpu us", "x fastapi", "x mlserver")


def _times(servers: Mapping[str, Any], name: str, other: str) -> float | None:
    if other not in servers or not servers[other]["rps"] or not servers[name]["rps"]:
        return None
    return round(float(servers[name]["rps"]) / float(servers[other]["rps"]), 2)


def notes_for_people(found: Mapping[str, Any]) -> list[str]:
    """Everything that is no row of the table, in lines."""
    lines = [
        f"{name} at {connections} connections: every round was void, the log fell behind"
        for connections, servers in found["closed"].items()
        for name, figures in servers.items()
        if not figures["rounds"]
    ]
    for mine, others in found["ratios"].items():
        for other, quotients in others.items():
            rate, late = quotients["rps"], quotients["p99"]
            lines.append(
                f"{mine} against {other}: rate x{rate['median']:.2f} ({rate['min']:.2f} to {rate['max']:.2f}), "
                f"p99 x{late['median']:.3f} ({late['min']:.3f} to {late['max']:.3f})"
            )
    for name, limit in found["open"].items():
        lines.append(
            f"{name}, constant arrivals: {limit['max_rate']:.0f}/s with p99 < 100 ms, "
            f"{limit['max_rate_50ms']:.0f}/s with p99 < 50 ms"
        )
    for name, cost in (("shadow", found["shadow_cost"]), ("explanations", found["explain_cost"])):
        if cost is not None:
            lines.append(f"{name}: {cost:.1%} of the rate")
    for name, times in found["lone_request"].items():
        lines.append(f"a lone request to {name}: {times['before_p50_ms']} ms, after a burst {times['after_p50_ms']} ms")
    if found["soak"] is not None:
        soak = found["soak"]
        lines.append(
            f"{soak['rate']:.0f} events/s for {soak['seconds']:.0f} s: p99 {soak['p99_ms']} ms, {soak['errors']} errors"
        )
    for name, stages in found["profile"].items():
        told = ", ".join(f"{stage} {share:.0%}" for stage, share in stages.items())
        lines.append(f"processor time of {name}: {told}")
    lines += [f"{name} did not take part: {why}" for name, why in found["skipped"].items()]
    return lines
