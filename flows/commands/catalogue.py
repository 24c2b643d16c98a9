"""Every command: its group, its module, one line of help and examples.

Imported by each call of ``incumbent``, so it imports nothing.
"""

from __future__ import annotations

from typing import NamedTuple


class Command(NamedTuple):
    """One command of ``incumbent``.

    Attributes:
        module: below ``flows.commands``.
        line: what it does, in one line.
        examples: at least two command lines, without the word ``incumbent``.
    """

    module: str
    line: str
    examples: tuple[str, ...]


GROUPS: dict[str, dict[str, Command]] = {
    "start: from a table to a running stack": {
        "init": Command(
            "models.init",
            "write a first use-case file from a table",
            ("init cards --from cards.csv", "init cards --from cards.parquet --target is_fraud --out cards.toml"),
        ),
        "check": Command("models.usecase", "check a use-case file", ("check cards.toml", "check fraud --json")),
        "simulate": Command(
            "models.usecase",
            "write simulated events to a file",
            ("simulate --out events.parquet --days 60", "simulate --usecase churn --out events.csv --seed 7"),
        ),
        "demo": Command("platform.stack", "the whole story, end to end, on simulated data", ("demo", "demo --keep")),
        "up": Command(
            "platform.stack",
            "start the whole stack and keep it up",
            ("up --usecase cards.toml", "up --usecase fraud --usecase churn --detach"),
        ),
        "down": Command("platform.stack", "stop a stack that was left up", ("down", "down --demo")),
        "login": Command(
            "platform.login",
            "what opens the pages of the stack: Prefect's password, a link to the reports",
            ("login", "login --demo"),
        ),
    },
    "build: train and judge models": {
        "train": Command(
            "models.train",
            "train a model and judge it",
            ("train --until 2026-03-01", "train --source parquet --path cards.parquet --until 2026-03-01"),
        ),
        "tune": Command(
            "models.train",
            "search for training settings, then train with the best",
            ("tune --trials 20", "tune --minutes 30 --until 2026-03-01"),
        ),
        "evaluate": Command(
            "models.train",
            "judge a stored version on later data",
            ("evaluate --version 3", "evaluate --version 3 --as-of 2026-04-01"),
        ),
        "retrain": Command(
            "models.train",
            "train again where the policy says so",
            ("retrain", "retrain --as-of 2026-04-01 --force"),
        ),
        "score": Command(
            "models.train",
            "score a window of events in bulk",
            ("score --in events.parquet --out scores.parquet", "score --version 3 --start 2026-03-01"),
        ),
    },
    "watch: what happens now": {
        "status": Command(
            "release.status", "which version serves, and how it goes", ("status", "status --deep", "status --html")
        ),
        "drift": Command(
            "release.promote",
            "compare a window with the champion's reference",
            ("drift", "drift --as-of 2026-03-08 --html never"),
        ),
        "alerts": Command(
            "release.status",
            "open alerts of the latest day, ranked by expected loss",
            ("alerts", "alerts --limit 50 --json"),
        ),
        "report": Command(
            "release.status",
            "what management asks for one month",
            ("report --month 2026-03", "report --as-of 2026-04-01 --json"),
        ),
        "notify": Command(
            "platform.notices",
            "tell people what happened: once, or going on; send a test notice",
            ("notify --test", "notify --follow --every 10"),
        ),
    },
    "decide: which version serves": {
        "compare": Command(
            "release.promote",
            "compare challenger and champion on matured traffic",
            ("compare", 'compare --new-plan --reason "the cost of a missed case has changed"'),
        ),
        "verdict": Command(
            "models.verdict",
            "judge any table of two scores and a label, without a server",
            ("verdict scores.csv --alert-rate 0.01", "verdict scores.parquet --champion-threshold 0.5 --html out.html"),
        ),
        "plan": Command(
            "models.plan",
            "how many positives and days a comparison needs",
            ("plan --effect 0.02", "plan --effect 0.02 --prevalence 0.01 --discordance 0.1 --events-per-day 50000"),
        ),
        "appoint": Command(
            "release.appoint",
            "put a version under comparison, or among those that wait",
            (
                'appoint 3 --role challenger --reason "better on new shops"',
                'appoint 4 --role candidate --reason "waits for its turn"',
            ),
        ),
        "dismiss": Command(
            "release.appoint",
            "take a version out of comparison, or from those that wait",
            (
                'dismiss --role challenger --reason "too slow"',
                'dismiss --role candidate --reason "trained on wrong labels"',
            ),
        ),
        "promote": Command(
            "release.promote",
            "make the challenger the champion",
            ("promote --preview", 'promote --reason "the comparison is won"'),
        ),
        "approve": Command(
            "release.approve",
            "agree to a promotion, with a personal key",
            ("approve --code", "approve --answer approve --key-file my.key"),
        ),
        "canary": Command(
            "release.canary",
            "give the challenger traffic: a share, named arms, a guarded ramp",
            ("canary --ramp 1,5,25,50,100 --guard 'error_rate<0.01'", "canary status", "canary --off"),
        ),
        "threshold": Command(
            "release.threshold",
            "another threshold for a while, by two people's keys",
            (
                "threshold show",
                'threshold --set 0.4 --until 4h --reason "a wave of fraud" --key-file a.key --key-file b.key',
            ),
        ),
        "rollback": Command(
            "release.promote",
            "bring the previous champion back",
            ("rollback --preview", 'rollback --reason "twice the alerts since noon"'),
        ),
        "audit": Command(
            "release.audit",
            "show, verify, export and replay the decisions; explain one answer",
            (
                "audit show --limit 20",
                "audit verify",
                "audit export --out decisions.jsonl",
                "audit roles --at 2026-03-01",
                "audit replay 34",
                "audit event 2f9c0a --html answer.html",
            ),
        ),
    },
    "data: what models learn from": {
        "data": Command(
            "data.versions",
            "versions of the training data: list, show, diff, restore",
            (
                "data list",
                "data show 3fa94c",
                "data diff 3fa94c 81bb02",
                "data restore 3fa94c --out rows.parquet",
                "data track",
            ),
        ),
        "lineage": Command(
            "release.lineage",
            "from a version to data, code, parameters and decisions, and back",
            ("lineage champion", "lineage --data 3fa94c"),
        ),
        "labels": Command(
            "data.labels",
            "import late labels; what of each day is still open",
            ("labels import labels.csv", "labels status --days 14"),
        ),
        "windows": Command(
            "data.windows",
            "import history, so that windows start warm",
            ("windows load --start 2026-01-01", "windows load --source parquet --path history.parquet"),
        ),
        "lookups": Command(
            "data.lookups",
            "tables that fill columns by entity: show, load",
            ("lookups show", "lookups load merchants merchants.parquet"),
        ),
        "feast": Command(
            "data.feast",
            "the window features as a Feast repository; a Feast view as a look-up table",
            (
                "feast generate --out feast_repo",
                "feast online --out feast_repo",
                "feast pull --repo feast_repo --view merchant_risk",
            ),
        ),
        "replay": Command(
            "data.replay",
            "send a window of a source through a running service, in order",
            ("replay --window 7d", "replay --start 2026-03-01 --end 2026-03-08 --without-labels"),
        ),
        "log": Command(
            "data.log",
            "prune the prediction log by age; take rows out that are dated in the future",
            ("log prune --older-than 400d --dry-run", "log repair"),
        ),
    },
    "operate: servers, keys, databases": {
        "serve": Command("platform.serve", "answer over HTTP", ("serve", "serve --usecase churn --port 3001")),
        "scribe": Command(
            "platform.serve", "ship the spool to the database", ("scribe", "scribe --usecase cards.toml")
        ),
        "exporter": Command(
            "platform.serve",
            "serve what the database tells as Prometheus metrics",
            ("exporter", "exporter --host 127.0.0.1 --port 9110"),
        ),
        "keys": Command(
            "platform.keys",
            "make, list and revoke API keys",
            ("keys add --owner checkout --scope score --expires 365d", "keys list", "keys revoke 7817b103495b"),
        ),
        "usecase": Command(
            "platform.usecases",
            "the use cases of a running installation: list, add, rename, retire",
            (
                "usecase list",
                "usecase add churn --yes",
                "usecase rename cards card_fraud",
                "usecase retire churn --yes",
            ),
        ),
        "deploy": Command(
            "platform.deploy",
            "make the deployments on a Prefect server; what people changed there stays",
            ("deploy", "deploy --usecase cards.toml"),
        ),
        "mlflow": Command(
            "platform.mlflow", "MLflow's own pages on models and runs, behind a login", ("mlflow", "mlflow --port 5001")
        ),
        "db": Command(
            "platform.databases",
            "where the databases stand; upgrade and repair them",
            ("db status", "db upgrade", "db repair --dry-run"),
        ),
        "backup": Command(
            "platform.databases",
            "one consistent set of everything that has to be remembered",
            ("backup --to sets/2026-03-01", "backup --to sets/2026-03-01 --with-keys"),
        ),
        "restore": Command(
            "platform.databases",
            "fill an empty home from a backup",
            ("restore --from sets/2026-03-01", "restore --from sets/2026-03-01 --no-repair"),
        ),
        "drill": Command(
            "platform.drill",
            "cause faults on purpose and count what they cost",
            (
                "drill log",
                "drill outage --seconds 30",
                "drill swap --flips 20",
                "drill promotion --memory-only",
                "drill rollback --guard latency",
            ),
        ),
        "completion": Command(
            "platform.completion",
            "print what makes a shell complete commands and options",
            ('completion bash  # in ~/.bashrc: eval "$(incumbent completion bash)"', "completion zsh"),
        ),
        "bench": Command(
            "platform.bench",
            "where the benches are: python -m tests.bench",
            ("bench", "bench serving --quick"),
        ),
    },
}

COMMANDS: dict[str, Command] = {name: command for group in GROUPS.values() for name, command in group.items()}


def examples_of(words: str) -> list[str]:
    """Command lines that show a command or one of its actions, such as ``audit`` or ``audit replay``."""
    lines = COMMANDS[words.split()[0]].examples
    return [f"incumbent {line}" for line in lines if f"{line} ".startswith(f"{words} ")]
