"""Make a small house with the commands and processes of one commit; see README.md beside this file.

Run it with the Python of that commit's environment, from that commit's repository::

    python /path/to/make.py TARGET.tar.xz

Everything in the house was written by that commit: nothing here opens a database or a model.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import time
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx

PLACE = Path("/var/tmp/old-house")
HOME, KEYS = PLACE / "home", PLACE / "keys"
USECASE = PLACE / "cards.toml"
PROGRAM = str(Path(sys.executable).with_name("incumbent"))
DAY = timedelta(days=1)
START = datetime(2026, 1, 1, tzinfo=UTC)
HISTORY, LIVE, WAITING = 22, 16, 2
"""Days before the first answer, answered days until the verdict, and days after it."""
LIVE_FROM = START + HISTORY * DAY

SMALLER = {
    'matures_after = "7d"': 'matures_after = "1d"',
    'over = "7d"': 'over = "2d"',
    'delay = "7d"': 'delay = "1d"',
    'over = "30d"': 'over = "3d"',
    'train = "28d"': 'train = "8d"',
    'calibration = "7d"': 'calibration = "3d"',
    'test = "7d"': 'test = "3d"',
    'refit_calibration = "4d"': 'refit_calibration = "2d"',
    "customers = 1000": "customers = 30",
    "terminals = 2000": "terminals = 60",
    "seed = 7": 'seed = 7\nshifts = [{ day = 0, kind = "fraud_scenario", factor = 1.0 }]',
    "min_recall_gain = 0.01": "min_recall_gain = 0.01\nmax_false_positive_rate_increase = 0.9\nplanned_days = 8",
    "min_average_precision = 0.5": "min_average_precision = 0.05",
    "min_recall = 0.5": "min_recall = 0.0",
    "max_calibration_error = 0.05": "max_calibration_error = 0.9",
    "min_matured_rows = 10000": "min_matured_rows = 100\nmin_baseline_gain = -1.0\nmax_champion_loss = 1.0",
    "min_rows = 200": "min_rows = 20",
    "min_matured_days = 14": 'min_matured_days = 3\napproval = "required"',
    "max_shadow_days = 60": 'max_shadow_days = 60\napproval_timeout = "36500d"\nverdict_valid_for = "36500d"',
    "min_matured_positives = 200": "min_matured_positives = 5",
    "alerts_per_day = 100": "alerts_per_day = 20",
    "max_bin = 1024": "max_bin = 64",
    "trees = {low = 50,": "trees = {low = 1,",
    "max_depth = {low = 2,": "max_depth = {low = 1,",
}
FIRST = {"trees = 100": "trees = 1", "max_depth = 3": "max_depth = 1", "false_negative = 100": "false_negative = 0.02"}
"""A missed fraud hardly costs anything, so the first model's threshold is far up; later the prices change."""
SECOND = {"trees = 100": "trees = 12", "false_negative = 100": "false_negative = 5"}


def write_usecase(training: dict[str, str]) -> None:
    """The card case, small, with the settings of one training."""
    text = next(Path("bentos").rglob("fraud/usecase.toml")).read_text(encoding="utf-8")
    for old, new in (SMALLER | training).items():
        assert old in text, old
        text = text.replace(old, new)
    USECASE.write_text(text + '\n[privacy]\nhashed = ["customer_id"]\n', encoding="utf-8")


def environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("INCUMBENT_", "PREFECT_", "MLFLOW_", "BENTOML_"))}
    return kept | {"INCUMBENT_HOME": str(HOME), "INCUMBENT_USECASE": str(USECASE), "INCUMBENT_ACTOR": "worker"}


def incumbent(*words: str, accept: tuple[int, ...] = (0,), **more: str) -> Any:
    """One command with ``--json``; what it printed."""
    done = subprocess.run([PROGRAM, *words, "--json"], env=environment() | more, capture_output=True, text=True)
    print(
        "$ incumbent", *words, "->", done.returncode, done.stdout[:1500].strip(), done.stderr[-600:].strip(), flush=True
    )
    assert done.returncode in accept, done.stderr
    return json.loads(done.stdout) if done.stdout.strip() else None


def iso(day: datetime) -> str:
    return day.isoformat()


def wait(what: str, came_true: Any, seconds: float = 1200.0) -> None:
    deadline = time.monotonic() + seconds
    while not came_true():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


def make_keys() -> None:
    """One key file a person, and one for the service's callers."""
    KEYS.mkdir()
    for owner, scopes in {
        "shop": ("score", "label"),
        "ann": ("approve",),
        "bob": ("approve",),
        "ops": ("admin",),
    }.items():
        words = [word for scope in scopes for word in ("--scope", scope)]
        made = incumbent("keys", "add", "--owner", owner, *words)
        (KEYS / owner).write_text(made["key"] + "\n", encoding="utf-8")


def replay(url: str, first: int, last: int, *more: str) -> None:
    """Answered days, with the labels that become known on them."""
    words = ("--start", iso(LIVE_FROM + first * DAY), "--end", iso(LIVE_FROM + last * DAY), "--batch", "20")
    incumbent("replay", "--service", url, *words, *more)


def start(*words: str) -> subprocess.Popen[bytes]:
    """A process of the house, with its log beside the home."""
    with (PLACE / f"{words[0]}.log").open("ab") as out:
        return subprocess.Popen([PROGRAM, *words], env=environment(), stdout=out, stderr=out, start_new_session=True)


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(60)


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def report_labels(url: str, first: int, last: int) -> int:
    """Post the labels that become known in a span of live days; nobody waits for the scribe."""
    from bentos.usecase.loading import load_usecase
    from flows.sources import open_source
    from flows.steps.operations.replay_events import label_bodies
    from monitoring.core.calendar import TimeWindow

    since, until = LIVE_FROM + first * DAY, LIVE_FROM + last * DAY
    read = open_source(load_usecase(str(USECASE)), "simulator").read(TimeWindow(START, until))
    known = read.revisions
    # Of this span only; a label that says nothing new is not sent.
    known = known[(known["observed_at"] >= since) & (known["observed_at"] < until) & (known["y"] == 1)]
    bodies = label_bodies(known.reset_index(drop=True))
    body = b"[" + b",".join(bodies) + b"]"
    httpx.post(f"{url}/labels", content=body, headers={"content-type": "application/json"},
               trust_env=False).raise_for_status()  # fmt: skip
    return len(bodies)


def accounting() -> Any:
    words = [sys.executable, "-m", "bentos.scribe", "--accounting"]
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def shadow_settled(challenger: str) -> bool:
    from monitoring.store import open_store

    store = open_store(f"sqlite:///{HOME / 'dev-log.db'}")
    try:
        seen = store.shadow.progress("fraud", challenger)
        return seen.scored > 0 and seen.pending == 0
    finally:
        store.close()


def settle() -> None:
    """Wait until the spool is in the log and the challenger has scored it in shadow."""
    wait("the spool", lambda: accounting()["spooled"] == 0)
    wait("the shadow", lambda: shadow_settled("dev-fraud/2"))


def compare(as_of: datetime) -> Any:
    return incumbent("compare", "--as-of", iso(as_of), "--html", "never", accept=(0, 1))


def live_in() -> dict[str, Any]:
    """Answer until a promotion waits for a person, and two days longer without a scribe."""
    # The prices have changed: a missed fraud costs money now.
    write_usecase(SECOND)
    train = ("train", "--source", "log", "--until", iso(LIVE_FROM))
    incumbent(*train, "--reason", "more trees", INCUMBENT_ACTOR="trainer")
    port, verdict_at = free_port(), LIVE_FROM + LIVE * DAY
    url, service, scribe = f"http://127.0.0.1:{port}", start("serve", "--port", str(port)), start("scribe")
    try:
        wait("the service", lambda: answers(url))
        replay(url, 0, LIVE)
        settle()
        stop(scribe)
        make_keys()
        incumbent("drift", "--as-of", iso(verdict_at), "--html", "never", accept=(0, 1))
        found = compare(verdict_at)
        assert found["verdict"]["outcome"] == "promote", found["verdict"]
        # Refused, with a request for approval in the chain.
        incumbent("promote", "--as-of", iso(verdict_at), "--reason", "it finds more", accept=(1,))
        replay(url, LIVE, LIVE + WAITING, "--without-labels")
        labels = report_labels(url, LIVE, LIVE + WAITING)
    finally:
        stop(scribe)
        stop(service)
    return {"labels_in_spool": labels}


def ship() -> None:
    """A scribe of this commit, until the spool is empty and the shadow has scored it."""
    scribe = start("scribe")
    try:
        settle()
    finally:
        stop(scribe)


def tidy() -> None:
    """Leave out what matters only while processes run, and what a command makes again."""
    for name in ("tmp", "run", "logs", "bentoml", "backups", "reports", "mlflow.db.lock", "cache/matplotlib"):
        path = HOME / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    USECASE.rename(HOME / USECASE.name)
    KEYS.rename(HOME / KEYS.name)


def pack(target: Path) -> None:
    with tarfile.open(target, "w:xz", preset=9) as tar:
        tar.add(
            HOME,
            arcname="home",
            filter=lambda entry: entry.replace(deep=False, uid=0, gid=0, uname="", gname="", mtime=0),
        )


def main(target: Path) -> None:
    """The house into ``target``; beside it what its own commit says about it, as JSON."""
    shutil.rmtree(PLACE, ignore_errors=True)
    HOME.mkdir(parents=True)
    os.environ.update(environment())
    write_usecase(FIRST)
    words = ("--start", iso(START), "--end", iso(LIVE_FROM), "--as-of", iso(LIVE_FROM))
    incumbent("windows", "load", "--source", "simulator", *words)
    incumbent("train", "--source", "log", "--until", iso(LIVE_FROM), "--reason", "the first model")
    figures = live_in()
    figures["accounting"] = accounting()
    figures["roles"] = incumbent("audit", "roles")
    figures["requests"] = incumbent("approve")
    figures["schema"] = {k: v for k, v in incumbent("db", "status").items() if k in ("revision", "program")}
    text = USECASE.read_text(encoding="utf-8")
    tidy()
    pack(target)
    # What this commit would have made of it: on the same place, after the archive was written.
    USECASE.write_text(text, encoding="utf-8")
    (HOME / "tmp").mkdir()
    ship()
    figures["accounting_shipped"] = accounting()
    figures["compare"] = {iso(day): compare(day) for day in (LIVE_FROM + n * DAY for n in (LIVE, LIVE + WAITING))}
    figures["first_day"] = iso(START)
    figures["made"] = {"program": version("incumbent"), "sqlalchemy": version("sqlalchemy"), "place": str(HOME)}
    text = json.dumps(figures, indent=1, sort_keys=True) + "\n"
    target.with_name(target.name.replace(".tar.xz", ".json")).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
