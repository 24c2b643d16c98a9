"""Keeps a running stack in step with the roster: the parts of each use case, their addresses, the scrape targets."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from bentos.errors import IncumbentError
from flows.errors import FlowError
from flows.stack.part_keeper import Keeper
from flows.stack.parts import Part, Ports, part_name, parts_of, usecase_parts
from flows.workspace.installation import Home
from flows.workspace.processes import free_port, stop_all
from flows.workspace.roster import Roster, read_roster, roster_file

FIRST_PORT = 3001
"""Port that the second use case's service prefers; each further one takes the next."""
KINDS = ("service", "scribe", "deployments", "notifier")
"""Parts that a use case has for itself, in the order in which they are stopped."""
FIRST = ("service", "scribe", "notifier")
"""Those with the plain names that end when their use case retires; the deployments also made the work pool."""


class RunningStack(Protocol):
    """What is asked of a stack that follows its roster."""

    ports: Ports

    @property
    def home(self) -> Home:
        """Where its state is."""
        ...

    @property
    def usecase(self) -> str:
        """Name of the use case whose parts have the plain names."""
        ...

    @property
    def keepers(self) -> dict[str, Keeper]:
        """The parts that are kept alive, by name."""
        ...

    @property
    def say(self) -> Callable[[str], None]:
        """Tells a person a sentence."""
        ...

    def add(self, part: Part) -> Keeper:
        """Keep a part alive."""
        ...


class Follower:
    """Starts and stops the parts of use cases as the roster of the home says.

    The use case that the stack was started with keeps the plain names (``service``, ``scribe``); each further one has
    parts and an address of its own (``service-churn``).
    """

    def __init__(self) -> None:
        self._seen: int | None = None
        self._roster = Roster()

    def follow(self, stack: RunningStack) -> bool:
        """Bring the parts in step where the roster changed; whether it did.

        What cannot be read, or may not run here, is told and holds up nothing else.
        """
        stamp = _changed_at(stack.home)
        if stamp == self._seen:
            return False
        self._seen = stamp
        try:
            old_roster, self._roster = self._roster, read_roster(stack.home)
            self._remove_usecases(stack)
            self._join(stack)
            self._first(stack, old_roster)
        except (FlowError, IncumbentError) as exc:
            stack.say(f"the use cases of this stack are not those of {roster_file(stack.home)}: {exc}")
        return True

    def _remove_usecases(self, stack: RunningStack) -> None:
        for name in [name for name in stack.ports.services if name not in self._roster.active]:
            _remove_parts(stack, *(part_name(kind, name) for kind in KINDS))
            stack.ports = replace(stack.ports, services=_without(stack.ports.services, name))

    def _join(self, stack: RunningStack) -> None:
        primary = stack.usecase
        for name in [name for name in self._roster.active if name != primary and name not in stack.ports.services]:
            port = free_port(FIRST_PORT + len(stack.ports.services), stack.ports.host)
            stack.ports = replace(stack.ports, services={**stack.ports.services, name: port})
        for part in usecase_parts(stack.ports, self._roster.active):
            if part.name not in stack.keepers:
                stack.add(part)

    def _first(self, stack: RunningStack, old_roster: Roster) -> None:
        """The use case with the plain names retires, or comes back."""
        if stack.usecase in self._roster.retired:
            _remove_parts(stack, *FIRST)
        elif stack.usecase in old_roster.retired:
            for part in parts_of(stack.home, stack.ports):
                if part.name in FIRST:
                    stack.add(part)


def _remove_parts(stack: RunningStack, *names: str) -> None:
    """Stop parts in order and forget them."""
    keepers = [stack.keepers.pop(name) for name in names if name in stack.keepers]
    stop_all([keeper.child for keeper in keepers if keeper.child is not None])


def _without(ports: dict[str, int], name: str) -> dict[str, int]:
    return {other: port for other, port in ports.items() if other != name}


def _changed_at(home: Home) -> int | None:
    try:
        return roster_file(home).stat().st_mtime_ns
    except OSError:
        return None


def write_targets(stack: RunningStack) -> None:
    """Write what Prometheus scrapes, as files of targets that say whose they are: ``run/targets/*.json``."""
    folder = stack.home.run / "targets"
    folder.mkdir(parents=True, exist_ok=True)
    env, ports = stack.home.settings.env, stack.ports
    usecase_ports = {**({stack.usecase: ports.service} if "service" in stack.keepers else {}), **ports.services}
    services = [_target(ports.url(port), usecase, env) for usecase, port in usecase_ports.items()]
    for name, targets in (("service", services), ("exporter", [_target(ports.urls["exporter"], "all", env)])):
        scratch = folder / f".{name}.tmp"
        scratch.write_text(json.dumps(targets, indent=1) + "\n", encoding="utf-8")
        scratch.replace(folder / f"{name}.json")


def remove_targets(home: Home) -> None:
    """Tell Prometheus that nothing is to be scraped here any more."""
    for file in (home.run / "targets").glob("*.json"):
        file.unlink(missing_ok=True)


def _target(url: str, usecase: str, env: str) -> dict[str, Any]:
    return {"targets": [url.removeprefix("http://")], "labels": {"usecase": usecase, "env": env}}
