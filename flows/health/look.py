"""What a check finds, and what checks look at: one installation, seen from outside, without changing it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Literal

import httpx

from flows.workspace.installation import Home
from monitoring.core.hosts import is_encrypted

if TYPE_CHECKING:
    from bentos.settings import Settings
    from flows.stack.state_file import StackState
    from monitoring.exporter.dependencies import Dependency
    from monitoring.store import Store

TIMEOUT_S: Final = 1.2
State = Literal["ok", "wrong", "not looked at"]


@dataclass(frozen=True)
class HealthFinding:
    """One line.

    Attributes:
        state: ``ok``, ``wrong``, or ``not looked at`` where that cannot be done here and need not be.
        text: what was looked at and what is so.
        todo: what to do; empty where nothing is.
    """

    state: State
    text: str
    todo: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


def ok(text: str) -> HealthFinding:
    """All is well."""
    return HealthFinding("ok", text)


def wrong(text: str, todo: str) -> HealthFinding:
    """Somebody must act."""
    return HealthFinding("wrong", text, todo)


def not_checked(reason: str) -> HealthFinding:
    """It cannot be seen from here, and need not be."""
    return HealthFinding("not looked at", reason)


@dataclass(frozen=True)
class HealthContext:
    """What is looked at.

    Attributes:
        settings: folders, addresses, environment.
        usecase: name of the use case.
        store: the database, opened; none while it does not answer or its tables are not those of this program.
        dependencies: what each service said, by name.
        now: machine time.
        environ: variables.
        patience: how much longer than usual an answer may take, at least 1: more where the machine is busy.
        name: what people call the use case in this home.
    """

    settings: Settings
    usecase: str
    store: Store | None
    dependencies: Mapping[str, Dependency]
    now: datetime
    environ: Mapping[str, str] = field(default_factory=dict)
    patience: float = 1.0
    name: str = ""

    @property
    def timeout_s(self) -> float:
        """Longest wait for one answer of a server."""
        return TIMEOUT_S * self.patience

    @property
    def model(self) -> str:
        """Name in the registry."""
        return self.settings.model_name(self.usecase)

    @property
    def home(self) -> Home:
        """Folders of the installation."""
        return Home(self.settings)

    @cached_property
    def stack(self) -> StackState | None:
        """What the stack of this home says of itself; none where none is up."""
        from flows.stack.state_file import read_state

        return read_state(self.home.addresses)

    def part(self, kind: str) -> str:
        """Name of this use case's part in the stack, such as ``service-churn``."""
        return kind if self.stack is None else self.stack.part_of(kind, self.usecase)

    def url(self, part: str) -> str:
        """Address of a part of the stack, by its name; empty where none is up."""
        return "" if self.stack is None else self.stack.urls.get(part, "")

    @property
    def service_url(self) -> str:
        """Address of the service of this use case; empty where none is up."""
        return self.url(self.part("service"))


HealthCheck = Callable[[HealthContext], HealthFinding]


def http_get(
    context: HealthContext, url: str, headers: dict[str, str] | None = None, login: tuple[str, str] | None = None
) -> httpx.Response:
    """Return a server's answer to a GET.

    Raises:
        httpx.HTTPError: it gave none in time.
    """
    return httpx.get(
        url, headers=headers, auth=login, timeout=context.timeout_s, trust_env=False, verify=is_encrypted(url)
    )
