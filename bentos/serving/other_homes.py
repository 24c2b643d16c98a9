"""Services of other homes on the same database: without shared windows only one home may answer for a use case.

The lock of a home (:mod:`bentos.home_lock`) keeps a second service out of the same home. Two homes on one database are
found by the signs of life that each replica leaves there. A database that is away keeps nobody from starting: answers
do not need it.
"""

from __future__ import annotations

import json
import os
import socket
from contextlib import closing
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from bentos.errors import HomeTaken
from bentos.keys.secret_file import make_secret
from bentos.settings import Settings
from monitoring.errors import MonitoringError

_VARIABLE: Final = "INCUMBENT_SERVING_HOME"
_FILE: Final = "home.id"


def name_home(settings: Settings, address: str) -> None:
    """Tell the workers what they are to say of their home in each sign of life."""
    description = {
        "id": home_id(settings.root),
        "where": f"{settings.root} on {socket.gethostname()}",
        "address": address,
        "windows": "shared" if settings.redis_url else "own",
    }
    os.environ[_VARIABLE] = json.dumps(description)


def home_description() -> dict[str, Any]:
    """Return what this worker says of its home: ``id``, ``where``, ``address``, ``windows``."""
    return dict(json.loads(os.environ.get(_VARIABLE, "{}")))


def home_id(root: Path) -> str:
    """Return what names a home for good, also in another container; a copy of its files is another home."""
    file = root / _FILE
    make_secret(file, uuid4().hex)  # whole or not at all, and of two processes at once the first one's stays
    return f"{file.read_text(encoding='utf-8').strip()}-{root.stat().st_ino}"


def require_only_home(settings: Settings, usecase: str) -> None:
    """Refuse to answer beside a service of another home on the same database, unless both share their windows.

    Args:
        settings: of this home.
        usecase: name of the use case.

    Raises:
        HomeTaken: naming the other one.
    """
    if not settings.database_url:
        return  # the database lies in the home, whose lock is held
    own_id, shares = home_id(settings.root), bool(settings.redis_url)
    for age, other in _other_replicas(settings, usecase):
        if other.get("id") in (None, own_id) or (shares and other.get("windows") == "shared"):
            continue
        address = f", at {other['address']}" if other.get("address") else ""
        raise HomeTaken(
            f"a service of {usecase} ({settings.env}) in {other.get('where')}{address} works on the same database "
            f"(last sign of life {age:.0f} s ago), and two would each keep windows of their own; stop it first, or let "
            "both share their windows (INCUMBENT_REDIS_URL, for each of them); one that was killed counts for 15 s"
        )


def _other_replicas(settings: Settings, usecase: str) -> list[tuple[float, dict[str, Any]]]:
    """Age and words of every replica of this model that was heard of lately; none where the database cannot be read."""
    from monitoring.store import open_store

    try:
        with closing(open_store(settings.log_url)) as store:
            replicas = store.serving.live(usecase)
    except MonitoringError:
        return []
    model = settings.model_name(usecase)
    return [
        (replica.age, json.loads(replica.detail).get("home") or {}) for replica in replicas if replica.model == model
    ]
