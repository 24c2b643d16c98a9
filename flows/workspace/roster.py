"""The use cases of one house, ``$INCUMBENT_HOME/usecases.json``: which run here, and which have retired.

``incumbent up --usecase A --usecase B`` and ``incumbent usecase`` write it; whoever supervises the stack reads it
again when it changes, and starts or stops the parts of a use case. Without the file a house has the one use case of
``INCUMBENT_USECASE``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Self

import msgspec
from msgspec.structs import replace

from flows.errors import FlowRefused
from flows.workspace.installation import Home, usecase_reference

FORMAT = 1


class Member(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One use case.

    Attributes:
        reference: built-in name, or the absolute path of its file.
        retired: since when it no longer runs here; none while it does.
    """

    reference: str
    retired: datetime | None = None


class Roster(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The use cases of a house, by name, in the order in which they came."""

    usecases: dict[str, Member] = {}
    format: int = FORMAT

    @property
    def active(self) -> dict[str, str]:
        """Reference of each use case that runs here, by name."""
        return {name: member.reference for name, member in self.usecases.items() if member.retired is None}

    @property
    def retired(self) -> dict[str, datetime]:
        """Since when each use case that no longer runs here has been retired, by name."""
        return {name: member.retired for name, member in self.usecases.items() if member.retired is not None}

    def put(self, name: str, member: Member) -> Self:
        """Return the roster with this use case in it."""
        return replace(self, usecases={**self.usecases, name: member})


def roster_file(home: Home) -> Path:
    """Where the roster of a house lies."""
    return home.root / "usecases.json"


def read_roster(home: Home) -> Roster:
    """Return the roster of a house; empty where it has none.

    Raises:
        FlowRefused: the file holds something else.
    """
    file = roster_file(home)
    try:
        return msgspec.json.decode(file.read_bytes(), type=Roster)
    except FileNotFoundError:
        return Roster()
    except (OSError, msgspec.MsgspecError) as exc:
        raise FlowRefused(f"{file} cannot be read ({exc}); `incumbent up --usecase NAME` writes it anew") from exc


def write_roster(home: Home, roster: Roster) -> None:
    """Replace the roster of a house as a whole."""
    file = roster_file(home)
    file.parent.mkdir(parents=True, exist_ok=True)
    scratch = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        scratch.write_bytes(msgspec.json.format(msgspec.json.encode(roster), indent=2) + b"\n")
        scratch.replace(file)
    finally:
        scratch.unlink(missing_ok=True)


def named_usecases(references: Sequence[str]) -> dict[str, str]:
    """Return the reference of each use case by its name.

    Args:
        references: built-in names or paths of use-case files.

    Raises:
        UseCaseError: a file is missing or wrong.
        FlowRefused: two have one name.
    """
    from bentos.usecase.loading import load_usecase

    found: dict[str, str] = {}
    for reference in map(usecase_reference, references):
        name = load_usecase(reference).name
        if name in found:
            raise FlowRefused(f"{found[name]} and {reference} are both the use case {name}; name each once")
        found[name] = reference
    return found


def settle_roster(home: Home, references: Sequence[str]) -> Roster:
    """Return the roster with which a stack comes up, and keep it where there is more than one use case.

    Args:
        home: of the house.
        references: what the command names; none takes the roster as it is.
    """
    if not references:
        return read_roster(home)
    found = named_usecases(references)
    if len(found) == 1 and not roster_file(home).exists():
        return Roster()
    before = read_roster(home) if roster_file(home).exists() else Roster()
    retired = {name: member for name, member in before.usecases.items() if name not in found and member.retired}
    roster = Roster({**{name: Member(reference) for name, reference in found.items()}, **retired})
    write_roster(home, roster)
    return roster
