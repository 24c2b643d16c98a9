"""``python -m flows.deployments``: make the work pool and deploy everything in ``prefect.yaml``, then end.

Run by the stack as a job of its own, so that a deployment that fails is said and tried again beside a service
that goes on answering.
"""

from __future__ import annotations

import subprocess

from flows.home import PROJECT
from flows.parts import POOL, program


def commands() -> list[list[str]]:
    """The commands of Prefect, in order."""
    return [
        ["work-pool", "create", POOL, "--type", "process", "--overwrite"],
        ["--no-prompt", "deploy", "--all", "--prefect-file", str(PROJECT / "prefect.yaml")],
    ]


def main() -> int:
    """Run them; the code of the first that fails, else 0."""
    for words in commands():
        done = subprocess.run([program("prefect"), *words], stdin=subprocess.DEVNULL, check=False, timeout=180)
        if done.returncode != 0:
            return done.returncode
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
