"""API keys: who may ask for what.

A key is ``inc_<id>_<secret>``. The file holds the SHA-256 of the secret, never the secret: it is 256
random bits, so a slow hash would add nothing but time to every request. ``python -m bentos.keys``
(and ``incumbent keys``) adds, lists and revokes keys; a running service sees a change within a second.

Scopes do not include one another. ``score`` asks for scores and reports events, ``label`` reports
labels, ``admin`` changes what the service does, ``approve`` signs promotions.
"""

from __future__ import annotations

import contextlib
import fcntl
import hmac
import json
import logging
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Literal, Self, get_args

from bentos.errors import KeyFileError, KeyInvalid, KeyMissing, ScopeMissing

Scope = Literal["score", "label", "admin", "approve"]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
_PREFIX: Final = "inc"
_FORMAT: Final = 1
_LONGEST_TOKEN: Final = 256
_CHECK_SECONDS: Final = 1.0
# An unknown id is compared with this, so that it takes as long to refuse as a wrong secret.
_NOBODY: Final = sha256(secrets.token_bytes(32)).hexdigest()
_LOG = logging.getLogger("incumbent.keys")


@dataclass(frozen=True)
class Key:
    """One key as the file holds it. Times are machine time, UTC.

    Attributes:
        id: the public part; safe to show and to log.
        owner: the person or system that holds it.
        scopes: what it may ask for.
        digest: SHA-256 of the secret, hex.
        created: when it was made.
        expires: from when on it is refused; none is never.
        revoked: since when it is refused; none is not.
    """

    id: str
    owner: str
    scopes: tuple[Scope, ...]
    digest: str
    created: datetime
    expires: datetime | None = None
    revoked: datetime | None = None

    def state(self, now: datetime) -> Literal["valid", "expired", "revoked"]:
        """Whether it is taken at a moment."""
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.expires is not None and self.expires <= now else "valid"

    def to_json(self) -> dict[str, Any]:
        """The entry of the file."""
        return {
            "id": self.id,
            "owner": self.owner,
            "scopes": list(self.scopes),
            "sha256": self.digest,
            "created": self.created.isoformat(),
            "expires": None if self.expires is None else self.expires.isoformat(),
            "revoked": None if self.revoked is None else self.revoked.isoformat(),
        }

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> Self:
        """Read an entry; raises ``KeyError``, ``TypeError`` or ``ValueError`` for anything else."""
        unknown = set(entry["scopes"]) - set(SCOPES)
        if unknown or len(bytes.fromhex(entry["sha256"])) != sha256().digest_size:
            raise ValueError("scopes or sha256")
        times = (_time(entry[name]) for name in ("created", "expires", "revoked"))
        created, expires, revoked = times
        if created is None:
            raise ValueError("created")
        scopes = tuple(scope for scope in SCOPES if scope in entry["scopes"])
        return cls(str(entry["id"]), str(entry["owner"]), scopes, entry["sha256"], created, expires, revoked)


class KeyRing:
    """The keys of one file, read again when the file changes.

    A file that has become unreadable leaves the last good keys in force, and says so in the log.

    Args:
        path: the file.
        monotonic: seconds of a clock that never jumps.

    Raises:
        KeyFileError: there is no file, it is no list of keys, or others may write it.
    """

    def __init__(self, path: Path, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self._monotonic = monotonic
        self._looked = monotonic()
        self._stamp = _stamp(path)
        self._keys = {key.id: key for key in read_keys(path)}

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a key file; see the class."""
        return cls(path)

    def check(self, token: str | None, scope: Scope | None, now: datetime) -> Key:
        """The key behind a token.

        Args:
            token: what the client sent, or none.
            scope: what it asks for; none is satisfied by any valid key.
            now: machine time.

        Raises:
            KeyMissing: no token.
            KeyInvalid: an unknown, expired or revoked one; the text does not say which.
            ScopeMissing: a valid one without the scope.
        """
        if not token:
            raise KeyMissing("an API key is needed: send 'Authorization: Bearer <key>' or 'X-API-Key: <key>'")
        self._look()
        name, secret = _split(token)
        key = self._keys.get(name)
        matches = hmac.compare_digest(_digest(secret), _NOBODY if key is None else key.digest)
        if key is None or not matches or key.state(now) != "valid":
            raise KeyInvalid("the API key is not known, or is no longer valid")
        if scope is not None and scope not in key.scopes:
            raise ScopeMissing(f"the API key lacks the scope {scope!r}")
        return key

    def __len__(self) -> int:
        return len(self._keys)

    def _look(self) -> None:
        """Read the file again if it changed; asks the disk once a second at most."""
        now = self._monotonic()
        if now - self._looked < _CHECK_SECONDS:
            return
        self._looked = now
        try:
            stamp = _stamp(self.path)
            if stamp != self._stamp:
                self._keys = {key.id: key for key in read_keys(self.path)}
                self._stamp = stamp
        except KeyFileError as exc:
            _LOG.error("the last good keys stay in force: %s", exc)


def read_keys(path: Path) -> list[Key]:
    """Every key of a file, revoked ones too.

    Raises:
        KeyFileError: as :class:`KeyRing`.
    """
    try:
        if path.stat().st_mode & 0o022:
            raise KeyFileError(f"{path}: others may write it, and so make keys; chmod 600 it")
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["format"] != _FORMAT:
            raise ValueError("format")
        return [Key.from_json(entry) for entry in data["keys"]]
    except OSError as exc:
        raise KeyFileError(f"{path}: {exc.strerror}; make it with `incumbent keys add`") from exc
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise KeyFileError(
            f"{path}: this is no key file ({type(exc).__name__}); make one with `incumbent keys`"
        ) from exc


def add_key(
    path: Path, owner: str, scopes: Sequence[Scope], now: datetime, expires: datetime | None = None
) -> tuple[Key, str]:
    """Make a key and store it; returns it with its token, which nothing can show again.

    Args:
        path: the key file; made when it is missing.
        owner: the person or system that will hold it.
        scopes: what it may ask for.
        now: machine time.
        expires: from when on it is refused; none is never.

    Raises:
        KeyFileError: the file cannot be used, or owner, scopes or expiry make no sense.
    """
    if not owner.strip() or not owner.isprintable() or len(owner) > 128:
        raise KeyFileError("an owner is needed: a name of 1 to 128 printable characters")
    if not scopes or set(scopes) - set(SCOPES):
        raise KeyFileError(f"scopes: found {', '.join(scopes) or 'none'}; allowed: {', '.join(SCOPES)}")
    if expires is not None and expires <= now:
        raise KeyFileError("the key would expire before it is made")
    name, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    key = Key(name, owner.strip(), tuple(s for s in SCOPES if s in scopes), _digest(secret), now, expires)
    with _edit_keys(path) as keys:
        keys.append(key)
    return key, f"{_PREFIX}_{name}_{secret}"


def revoke_key(path: Path, name: str, now: datetime) -> Key:
    """Refuse a key from now on; its entry stays, so that old records keep their owner.

    Raises:
        KeyFileError: there is no such file or key.
    """
    read_keys(path)  # a missing file is an error here, and no reason to make one
    with _edit_keys(path) as keys:
        for at, key in enumerate(keys):
            if key.id == name:
                keys[at] = key if key.revoked is not None else replace(key, revoked=now)
                return keys[at]
    raise KeyFileError(f"{path}: there is no key {name!r}; `incumbent keys list` shows them")


@contextlib.contextmanager
def _edit_keys(path: Path) -> Iterator[list[Key]]:
    """The keys of a file, written back whole when the block ends; one changer at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        keys = read_keys(path) if path.exists() else []
        yield keys
        _write(path, keys)
    except OSError as exc:
        raise KeyFileError(f"{path}: {exc.strerror}") from exc
    finally:
        os.close(descriptor)


def _write(path: Path, keys: Sequence[Key]) -> None:
    body = json.dumps({"format": _FORMAT, "keys": [key.to_json() for key in keys]}, indent=1, ensure_ascii=False)
    # mkstemp makes the file with mode 0600; a reader sees the old file or the new one, never a part.
    descriptor, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            out.write(body + "\n")
            out.flush()
            os.fsync(out.fileno())
        os.replace(scratch, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(scratch)
        raise


def _split(token: str) -> tuple[str, str]:
    """Id and secret of a token; empty ones for what is no token."""
    if len(token) > _LONGEST_TOKEN:
        return "", ""
    prefix, _, rest = token.partition("_")
    name, _, secret = rest.partition("_")
    return (name, secret) if prefix == _PREFIX and secret else ("", token)


def _digest(secret: str) -> str:
    return sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        status = path.stat()
    except OSError as exc:
        raise KeyFileError(f"{path}: {exc.strerror}; make it with `incumbent keys add`") from exc
    return status.st_mtime_ns, status.st_size, status.st_ino


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a time without an offset")
    return moment.astimezone(UTC)
