"""Prometheus instruments of the serving process: fast figures, counted where they happen.

Slow figures (drift, matured performance, lag of the log) come from the database and belong to
``monitoring.exporter``. Everything here is module level, because BentoML merges the processes of a
service through prometheus_client's multiprocess files and custom collectors would not reach
``/metrics``. Gauges say how several processes merge.

No label ever holds an event id, an entity or a value of an event.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from prometheus_client import Counter, Gauge, Histogram

NAMESPACE: Final = "incumbent"

SCORED_EVENTS: Final = Counter(
    "scored_events",
    "Events answered with a score, by the version that answered, its role and the decision",
    ["version", "alias", "decision"],
    namespace=NAMESPACE,
)
REPLAYED_EVENTS: Final = Counter(
    "replayed_events", "Events whose id and body were answered before: the answer was repeated", namespace=NAMESPACE
)
REFUSED_REQUESTS: Final = Counter(
    "refused_requests", "Requests refused, by path and error code", ["path", "code"], namespace=NAMESPACE
)
REFUSED_ROWS: Final = Counter(
    "refused_rows",
    "Rows refused and put into quarantine, by kind (event, label, action) and reason (in_future)",
    ["kind", "reason"],
    namespace=NAMESPACE,
)
LOGGED_FUTURE_EVENTS: Final = Gauge(
    "logged_future_events",
    "Events of the future that the log held when the windows here were last built from it",
    namespace=NAMESPACE,
    multiprocess_mode="livemostrecent",
)
TOO_LATE_EVENTS: Final = Counter(
    "too_late_events",
    "Events answered and logged that the windows here no longer add: older than the longest window reaches, by the "
    "clock of the windows",
    namespace=NAMESPACE,
)
BATCH_EVENTS: Final = Histogram(
    "score_batch_events",
    "Events scored together",
    namespace=NAMESPACE,
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024),
)
RECEIVED_EVENTS: Final = Counter(
    "received_events", "Events accepted over HTTP that are not to be scored, repeats not counted", namespace=NAMESPACE
)
LATE_REPORTS: Final = Counter(
    "late_reports", "Fallback decisions that clients reported, repeats counted", ["reason"], namespace=NAMESPACE
)
RECEIVED_LABELS: Final = Counter(
    "received_labels", "Labels accepted over HTTP, by source", ["source"], namespace=NAMESPACE
)
RECEIVED_ACTIONS: Final = Counter(
    "received_actions",
    "Actions accepted over HTTP, by what was done and by whom",
    ["action", "by"],
    namespace=NAMESPACE,
)
APPLIED_LABELS: Final = Counter("applied_labels", "Labels fed to the window state", namespace=NAMESPACE)

READY: Final = Gauge("ready", "1 while a verified champion is active", namespace=NAMESPACE, multiprocess_mode="livemax")
SERVED_VERSION: Final = Gauge(
    "served_version",
    "Active version here, as a number; 0 is an external incumbent",
    namespace=NAMESPACE,
    multiprocess_mode="livemostrecent",
)
SERVED_SINCE: Final = Gauge(
    "served_since_timestamp_seconds",
    "When the active version became champion here",
    namespace=NAMESPACE,
    multiprocess_mode="livemostrecent",
)
ALIAS_VERSION: Final = Gauge(
    "alias_version",
    "Version that the registry gives a role, as last seen here; 0 is vacant",
    ["role"],
    namespace=NAMESPACE,
    multiprocess_mode="livemostrecent",
)
REGISTRY_POLLED: Final = Gauge(
    "registry_polled_timestamp_seconds",
    "Last time the registry answered",
    namespace=NAMESPACE,
    multiprocess_mode="livemostrecent",
)
REGISTRY_POLL_FAILURES: Final = Counter(
    "registry_poll_failures", "Look-ups that the registry did not answer", namespace=NAMESPACE
)
SCORES: Final = Histogram(
    "score",
    "Calibrated scores given, by the version that answered and its role",
    ["version", "alias"],
    namespace=NAMESPACE,
    buckets=(0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0),
)
MODEL_SWAPS: Final = Counter("model_swaps", "Changes of the active version", namespace=NAMESPACE)
MODEL_REJECTIONS: Final = Counter(
    "model_rejections",
    "Versions that were refused, by reason: missing, corrupt, schema, journal",
    ["version", "reason"],
    namespace=NAMESPACE,
)
ALIAS_UNEXPLAINED: Final = Gauge(
    "alias_unexplained",
    "1 while @champion names a version that no approved decision made champion",
    namespace=NAMESPACE,
    multiprocess_mode="livemax",
)
REGISTRY_LOST_ROLE: Final = Gauge(
    "registry_lost_role",
    "1 while the journal has a version in this role and the registry knows none there",
    ["role"],
    namespace=NAMESPACE,
    multiprocess_mode="livemax",
)
JOURNAL_PINNED: Final = Gauge(
    "office_pinned",
    "1 while a version is active by the journal alone, because the registry did not answer",
    namespace=NAMESPACE,
    multiprocess_mode="livemax",
)
MODEL_REJECTED: Final = Gauge(
    "model_rejected",
    "1 while a version that holds a role is refused here",
    ["role"],
    namespace=NAMESPACE,
    multiprocess_mode="livemostrecent",
)
MODEL_SWAP_SECONDS: Final = Histogram(
    "model_swap_seconds",
    "From seeing a changed alias to the first batch of the new version: fetch, verify, warm up, swap",
    namespace=NAMESPACE,
    buckets=(0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0),
)

ROUTED_SHARE: Final = Gauge(
    "routed_share",
    "Share of the entities that the challenger answers here; 0 while the champion answers all",
    namespace=NAMESPACE,
    multiprocess_mode="livemostrecent",
)
ROUTING_SUSPENDED: Final = Gauge(
    "routing_suspended",
    "1 while a routing policy wants the challenger to answer and the champion answers all instead",
    namespace=NAMESPACE,
    multiprocess_mode="livemostrecent",
)
ARM_FALLBACKS: Final = Counter(
    "arm_fallbacks",
    "Events of the challenger's arm that the champion answered, because the challenger failed: raised, "
    "not_a_probability",
    ["version", "reason"],
    namespace=NAMESPACE,
)

WINDOW_REBUILDS: Final = Counter(
    "window_rebuilds", "Times the window state was built from the log, by outcome", ["outcome"], namespace=NAMESPACE
)
WINDOW_REBUILD_SECONDS: Final = Gauge(
    "window_rebuild_seconds", "Length of the last rebuild", namespace=NAMESPACE, multiprocess_mode="livemostrecent"
)

LOOKUP_READS: Final = Counter(
    "lookup_reads", "Times a look-up table was read anew, by outcome", ["lookup", "outcome"], namespace=NAMESPACE
)
LOOKUP_NEWEST: Final = Gauge(
    "lookup_newest_timestamp_seconds",
    "Newest valid_from of a look-up table in memory",
    ["lookup"],
    namespace=NAMESPACE,
    multiprocess_mode="livemostrecent",
)

LOG_ACCEPTED: Final = Gauge(
    "log_accepted_records",
    "Records given to the spool since the start",
    namespace=NAMESPACE,
    multiprocess_mode="livesum",
)
LOG_DROPPED: Final = Gauge(
    "log_dropped_records",
    "Records dropped at the spool's cap since the start",
    namespace=NAMESPACE,
    multiprocess_mode="livesum",
)
SPOOL_BYTES: Final = Gauge(
    "spool_bytes", "Size of the spool on this machine", namespace=NAMESPACE, multiprocess_mode="livemax"
)
HEARTBEAT_FAILURES: Final = Counter(
    "heartbeat_failures", "Heartbeats that the database did not take", namespace=NAMESPACE
)


class RecentAnswers:
    """Events that were answered in the latest minute or two, in plain numbers: what a heartbeat tells.

    Times are those of single events. They are counted in buckets a tenth apart, so the percentile is up to a
    tenth too high. It is written by the loop's thread and read by another; a sum may miss the event of this moment.

    Args:
        clock: monotonic seconds.
        seconds: length of each of the two parts.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, seconds: float = 60.0) -> None:
        self._clock = clock
        self._seconds = seconds
        self._version: str | None = None
        self._due = 0.0
        self._part: list[int] = []
        self._before: list[int] = []
        self._restart()

    def add(self, status: int, seconds: float) -> None:
        """Count one answer; a status from 500 on is a failure."""
        part = self._part
        part[min(bisect_left(_BOUNDS, seconds), len(_BOUNDS) - 1)] += 1
        if status >= 500:
            part[-1] += 1

    def add_list(self, events: int, failed: int) -> None:
        """Count the events of a list, and those of them that got no answer by a fault of the service."""
        part = self._part
        part[-2] += events
        part[-1] += failed

    def told(self, version: str | None) -> dict[str, Any]:
        """``requests``, ``failed`` and ``p99_ms`` since this version became champion, of the latest minute or two.

        Each event counts as a request, alone or in a list. There is no percentile without a single one.
        """
        if version != self._version:
            self._version = version
            self._restart()
        now = self._clock()
        if now >= self._due:
            self._before, self._part = self._part, [0] * _CELLS
            self._due = now + self._seconds
        *counts, list_events, failed = (a + b for a, b in zip(self._before, self._part, strict=True))
        single_requests = sum(counts)
        return {
            "requests": single_requests + list_events,
            "failed": failed,
            "p99_ms": _percentile(counts, single_requests, 0.99),
        }

    def _restart(self) -> None:
        self._part, self._before = [0] * _CELLS, [0] * _CELLS
        self._due = self._clock() + self._seconds


def _percentile(counts: Sequence[int], total: int, share: float) -> float | None:
    """Upper bound of the bucket that holds a percentile, in milliseconds."""
    counted_requests = 0
    for bound, count in zip(_BOUNDS, counts, strict=True):
        counted_requests += count
        if count and counted_requests >= share * total:
            return round(bound * 1e3, 3)
    return None


_BOUNDS: Final = tuple(0.0002 * 1.1**step for step in range(120))
"""Seconds: from a fifth of a millisecond to 17 s."""
_CELLS: Final = len(_BOUNDS) + 2
"""A count for each bound, one of the events in lists, one of failures."""
RECENT_ANSWERS: Final = RecentAnswers()


class RequestTally:
    """Counts requests in plain numbers and moves them into Prometheus instruments now and then.

    One observation costs 7 us and one increment 3 us in multiprocess mode, a tenth of a whole request.

    Args:
        instruments: gives the counter and the histogram (with labels ``endpoint`` and
            ``http_response_code``), or none when metrics are off.
        labels: the other labels that they want.
        recent: counts the answers to single events too.
        endpoints: their counts of 200 and 500 begin at 0, so that a rate sees the first of them.
    """

    def __init__(
        self,
        instruments: Callable[[], tuple[Any, Any] | None],
        labels: Callable[[], Mapping[str, str]],
        recent: RecentAnswers = RECENT_ANSWERS,
        endpoints: Sequence[str] = (),
    ) -> None:
        self._endpoints = endpoints
        self._instruments = instruments
        self._labels = labels
        self._recent = recent
        self._seconds: defaultdict[tuple[str, int], list[float]] = defaultdict(list)

    def add(self, endpoint: str, status: int, seconds: float) -> None:
        """Count one request."""
        self._seconds[endpoint, status].append(seconds)
        if endpoint == "/score":
            self._recent.add(status, seconds)

    def flush(self) -> None:
        """Move what was counted into the instruments."""
        if not (self._seconds or self._endpoints) or (instruments := self._instruments()) is None:
            return
        total, duration = instruments
        endpoints, self._endpoints = self._endpoints, ()
        for endpoint in endpoints:
            for code in ("200", "500"):
                total.labels(**self._labels(), endpoint=endpoint, http_response_code=code).inc(0)
        seconds_by_request, self._seconds = self._seconds, defaultdict(list)
        for (endpoint, status), seconds in seconds_by_request.items():
            labels = {**self._labels(), "endpoint": endpoint, "http_response_code": str(status)}
            total.labels(**labels).inc(len(seconds))
            observe_all(duration.labels(**labels), seconds)


class ScoreTally:
    """Counts scored events in plain numbers, like :class:`RequestTally`."""

    def __init__(self) -> None:
        self._sizes: list[float] = []
        self._decisions: defaultdict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
        self._scores: defaultdict[tuple[str, str], list[float]] = defaultdict(list)

    def add(self, version: str, alias: str, flagged: list[bool], scores: Sequence[float] = ()) -> None:
        """Count one batch of one version."""
        self._scores[version, alias].extend(scores)
        self._sizes.append(len(flagged))
        counts = self._decisions[version, alias]
        alerts = sum(flagged)
        counts[0] += len(flagged) - alerts
        counts[1] += alerts

    def flush(self) -> None:
        """Move what was counted into the instruments."""
        sizes, self._sizes = self._sizes, []
        if sizes:
            observe_all(BATCH_EVENTS, sizes)
        decision_counts, self._decisions = self._decisions, defaultdict(lambda: [0, 0])
        for (version, alias), counts in decision_counts.items():
            for decision, number in zip(("pass", "alert"), counts, strict=True):
                SCORED_EVENTS.labels(version, alias, decision).inc(number)
        scores, self._scores = self._scores, defaultdict(list)
        for (version, alias), values in scores.items():
            # A model that gives no probability answers nothing, and a NaN would spoil the sum for good.
            observe_all(SCORES.labels(version, alias), [value for value in values if 0.0 <= value <= 1.0])


def observe_all(histogram: Any, values: list[float]) -> None:
    """Observe many values at the price of one: each bucket is incremented once.

    prometheus_client has no public call for it; these are the parts that ``observe`` itself uses.
    """
    bounds = histogram._upper_bounds
    counts = [0] * len(bounds)
    for value in values:
        counts[bisect_left(bounds, value)] += 1
    histogram._sum.inc(sum(values))
    for bucket, number in zip(histogram._buckets, counts, strict=True):
        if number:
            bucket.inc(number)
