"""Where notices go: names in the use case, addresses with their secrets in variables or in one private file.

The target ``oncall`` is the variable ``INCUMBENT_NOTIFY_ONCALL``, else ``oncall`` in ``notify.toml`` of the home; the
target ``default`` is ``INCUMBENT_NOTIFY_URL``, else ``default`` in that file. An address may be several, with spaces
between them.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass

from bentos.settings import Settings
from bentos.usecase.definition import UseCase
from bentos.usecase.options import DEFAULT_TARGET
from flows.errors import NotifyError

FILE = "notify.toml"


@dataclass(frozen=True)
class Target:
    """A name and its addresses; ``repr`` shows the name alone, for addresses hold secrets.

    Attributes:
        name: as the use case has it.
        urls: addresses; none where nothing is configured.
    """

    name: str
    urls: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Target({self.name!r}, {len(self.urls)} addresses)"

    @property
    def variable(self) -> str:
        """The variable that holds its address."""
        return "INCUMBENT_NOTIFY_URL" if self.name == DEFAULT_TARGET else f"INCUMBENT_NOTIFY_{self.name.upper()}"

    @property
    def configured(self) -> bool:
        """Whether it has an address."""
        return bool(self.urls)


def find_target(settings: Settings, name: str) -> Target:
    """The target of that name; without addresses where nobody wrote one down.

    Raises:
        NotifyError: the file cannot be read, or others may read it.
    """
    empty = Target(name, ())
    value = settings.notify_url.get_secret_value() if name == DEFAULT_TARGET else os.environ.get(empty.variable, "")
    return Target(name, tuple((value or _from_file(settings).get(name, "")).split()))


def all_targets(settings: Settings, usecase: UseCase) -> list[Target]:
    """The default target and every one that the use case's routes name.

    Raises:
        NotifyError: as :func:`find_target`.
    """
    names = dict.fromkeys([DEFAULT_TARGET, *(route.to for route in usecase.notify.routes)])
    return [find_target(settings, name) for name in names]


def _from_file(settings: Settings) -> dict[str, str]:
    path = settings.root / FILE
    try:
        if path.stat().st_mode & 0o077:
            raise NotifyError(f"{path}: others may read it, and it holds secrets; chmod 600 it")
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as exc:  # the text of the error could quote a line, and so a secret
        raise NotifyError(f"{path} cannot be read as TOML: {type(exc).__name__}") from None
    invalid = [name for name, value in content.items() if not isinstance(value, str)]
    if invalid:
        raise NotifyError(f"{path}: {invalid[0]} must be text, an address such as mailto://... or https://...")
    return content
