"""The use cases of one home, ``$INCUMBENT_HOME/usecases.json``: which run here, and which have retired.

``incumbent up --usecase A --usecase B`` and ``incumbent usecase`` write it; whoever supervises the stack reads it
again when it changes, and starts or stops the parts of a use case. Without the file a home has the one use case of
``INCUMBENT_USECASE``.

A use case has one id for good, the ``name`` of its file: models, log, chain, deployments and metrics carry it. People
may call it something else in this home (``incumbent usecase rename``); every name that it ever had leads to it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Self

import msgspec
from msgspec.structs import replace

from flows.errors import FlowRefused
from flows.workspace.installation import Home, open_home, usecase_reference

FORMAT = 1
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")


class Member(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One use case.

    Attributes:
        reference: built-in name, or the absolute path of its file.
        retired: since when it no longer runs here; none while it does.
    """

    reference: str
    retired: datetime | None = None


class Naming(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What people call a use case in this home.

    Attributes:
        name: its name now.
        reference: built-in name, or the absolute path of its file.
        former: names that it had here before.
    """

    name: str
    reference: str
    former: tuple[str, ...] = ()


class Roster(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The use cases of a home, by id, in the order in which they came; ``names`` holds those that were renamed."""

    usecases: dict[str, Member] = {}
    names: dict[str, Naming] = {}
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

    def name_of(self, usecase: str) -> str:
        """Return what people call a use case, by its id."""
        return self.names[usecase].name if usecase in self.names else usecase

    def id_of(self, name: str) -> str | None:
        """Return the id of the use case that has or had a name; none where it is nobody's."""
        if name in self.usecases or name in self.names:
            return name
        return next((key for key, naming in self.names.items() if name in (naming.name, *naming.former)), None)

    def require_free(self, usecase: str) -> None:
        """Refuse a use case whose id is a name of another one here.

        Raises:
            FlowRefused: naming the other one.
        """
        owner = self.id_of(usecase)
        if owner not in (None, usecase):
            raise FlowRefused(f"{usecase} leads to the use case {owner} in this home; give the file another name")

    def rename(self, usecase: str, name: str, reference: str) -> Self:
        """Return the roster in which a use case has another name.

        Args:
            usecase: its id.
            name: what people shall call it.
            reference: built-in name or file.

        Raises:
            FlowRefused: the name is malformed, the present one, or another use case's.
        """
        from bentos.usecase.loading import builtin_usecases

        if _NAME.fullmatch(name) is None:
            raise FlowRefused(f"{name!r} is no name: a-z, then up to 62 of a-z, 0-9, _ and -")
        if name == self.name_of(usecase):
            raise FlowRefused(f"{usecase} is already named {name}")
        owner = self.id_of(name) or (name if name in builtin_usecases() else usecase)
        if owner != usecase:
            raise FlowRefused(f"{name} leads to the use case {owner} already; take another name")
        old_naming = self.names.get(usecase, Naming(usecase, reference))
        former = dict.fromkeys([*old_naming.former, old_naming.name])
        naming = Naming(name, reference, tuple(old_name for old_name in former if old_name not in (name, usecase)))
        return replace(self, names={**self.names, usecase: naming})


def roster_file(home: Home) -> Path:
    """Where the roster of a home lies."""
    return home.root / "usecases.json"


def read_roster(home: Home) -> Roster:
    """Return the roster of a home; empty where it has none.

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
    """Replace the roster of a home as a whole."""
    file = roster_file(home)
    file.parent.mkdir(parents=True, exist_ok=True)
    scratch = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        scratch.write_bytes(msgspec.json.format(msgspec.json.encode(roster), indent=2) + b"\n")
        scratch.replace(file)
    finally:
        scratch.unlink(missing_ok=True)


def find_reference(roster: Roster, word: str) -> str:
    """Return the reference of the use case that has or had the name ``word`` in a home; any other word as it is."""
    usecase = None if word.endswith(".toml") else roster.id_of(word)
    if usecase is None or usecase not in roster.names:
        return word
    return roster.usecases[usecase].reference if usecase in roster.usecases else roster.names[usecase].reference


def resolve_usecase(home: Home, word: str) -> str:
    """Return the reference that a name leads to in a home; a roster that cannot be read changes no word."""
    try:
        return find_reference(read_roster(home), word)
    except FlowRefused:
        return word


def open_named_home(word: str | None, tell: Callable[[str], None] = lambda sentence: None, **overrides: object) -> Home:
    """Return the home of ``INCUMBENT_HOME`` for the use case that a name leads to there.

    Args:
        word: a name that the use case has or had there, a built-in name or a file; none takes ``INCUMBENT_USECASE``.
        tell: is called with a sentence where it has another name now.
        overrides: of further settings.

    Raises:
        SettingsError: a variable holds something unusable.
    """
    home = open_home(**overrides, **({"usecase": usecase_reference(word)} if word else {}))
    reference = resolve_usecase(home, home.settings.usecase)
    if word and (present_name := current_name(home, word)) != word:
        tell(f"{word} is now named {present_name}")
    return home if reference == home.settings.usecase else Home(home.settings.model_copy(update={"usecase": reference}))


def current_name(home: Home, word: str) -> str:
    """Return the present name of the use case that has or had a name; the word itself where it is nobody's."""
    try:
        roster = read_roster(home)
    except FlowRefused:
        return word
    usecase = roster.id_of(word)
    return word if usecase is None else roster.name_of(usecase)


def map_usecases(references: Sequence[str]) -> dict[str, str]:
    """Return the reference of each use case by its name.

    Args:
        references: built-in names or paths of use-case files.

    Raises:
        UseCaseError: a file is missing or wrong.
        FlowRefused: two have one name.
    """
    from bentos.usecase.loading import load_usecase

    by_name: dict[str, str] = {}
    for reference in map(usecase_reference, references):
        name = load_usecase(reference).name
        if name in by_name:
            raise FlowRefused(f"{by_name[name]} and {reference} are both the use case {name}; name each once")
        by_name[name] = reference
    return by_name


def settle_roster(home: Home, references: Sequence[str]) -> Roster:
    """Return the roster with which a stack comes up, and keep it where there is more than one use case.

    Args:
        home: of the installation.
        references: what the command names; none takes the roster as it is.
    """
    if not references:
        return read_roster(home)
    old_roster = read_roster(home)
    by_name = map_usecases([find_reference(old_roster, reference) for reference in references])
    for name in by_name:
        old_roster.require_free(name)
    if len(by_name) == 1 and not old_roster.usecases:
        return old_roster
    retired = {name: member for name, member in old_roster.usecases.items() if name not in by_name and member.retired}
    roster = Roster({**{name: Member(reference) for name, reference in by_name.items()}, **retired}, old_roster.names)
    write_roster(home, roster)
    return roster
