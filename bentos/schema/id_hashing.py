"""What must not be kept as it came: entity ids that are stored as keyed hashes, card numbers that are refused.

Hashing happens where events are first read (:class:`bentos.schema.event_schema.EventSchema`), so everything behind
it (windows, log, spool, snapshots, reports) holds the hash alone, and a table and a request give the
same one. A hash is ``hk<key id>_<22 characters>``: 128 bits of HMAC-SHA-256 (RFC 2104). A value that
is such a hash already passes unchanged, so what the log holds can be read, exported and sent again;
a hash made with another key is refused, because its windows would silently start empty.
"""

from __future__ import annotations

import hmac
import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from bentos.errors import HashKeyMissing, SecretFileError
from bentos.keys.secret_file import make_secret, read_secret

if TYPE_CHECKING:
    from pathlib import Path

    from bentos.settings import Settings
    from bentos.usecase.definition import UseCase

_HASH: Final = re.compile(r"hk[0-9a-f]{6}_[A-Za-z0-9_-]{22}")
_SHORTEST_KEY: Final = 32
_SAMPLE: Final = b"a key for made-up events only...."
_GAP: Final = r"[ .\-\u00a0\u2007\u202f\u2010-\u2015]{0,2}"
# ASCII first: most texts hold no digit run at all, and this pattern says so without a loop in Python.
_RUN: Final = re.compile(rf"\d(?:{_GAP}\d){{12,}}")
_GROUP: Final = re.compile(r"\d+")
_SHORTEST_CARD, _LONGEST_CARD = 13, 19


class ForeignHash(ValueError):
    """A value is a hash that was made with another key."""


class Hasher:
    """Turns entity ids into keyed hashes.

    Args:
        key: the secret; whoever has it can test guesses of an id.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._mark = f"hk{sha256(b'incumbent key id' + key).hexdigest()[:6]}_"

    @classmethod
    def for_samples(cls) -> Hasher:
        """A hasher for made-up events, with a key that everybody knows."""
        return cls(_SAMPLE)

    def __call__(self, text: str) -> str:
        """The hash of an id; a hash of this key is returned as it is.

        Raises:
            ForeignHash: the text is a hash of another key.
        """
        if text.startswith("hk") and _HASH.fullmatch(text):
            if text.startswith(self._mark):
                return text
            raise ForeignHash("a hash that was made with another key")
        digest = hmac.digest(self._key, text.encode(), "sha256")[:16]
        return self._mark + urlsafe_b64encode(digest)[:22].decode()


class LazyHasher:
    """A hasher whose key is looked up when the first id comes."""

    def __init__(self, make_hasher: Callable[[], Hasher]) -> None:
        self._find = make_hasher
        self._found: Hasher | None = None

    def __call__(self, text: str) -> str:
        """As :class:`Hasher`; raises :class:`~bentos.errors.HashKeyMissing` too."""
        if self._found is None:
            self._found = self._find()
        return self._found(text)


def configured_hasher() -> Hasher:
    """The hasher of this installation; raises :class:`~bentos.errors.HashKeyMissing`."""
    from bentos.settings import read_settings

    return Hasher(read_hash_key(read_settings()))


def read_hash_key(settings: Settings) -> bytes:
    """The key: ``INCUMBENT_HASH_KEY``, else the file in ``home``. Nothing is made.

    Raises:
        HashKeyMissing: there is neither, or it is too short to be a secret.
    """
    path = settings.hash_key_file
    text = settings.hash_key.get_secret_value()
    if not text:
        try:
            text = read_secret(path)
        except SecretFileError as exc:
            raise HashKeyMissing(
                f"the use case stores hashed ids and there is no key ({exc}): set INCUMBENT_HASH_KEY, or make {path} "
                "by running any `incumbent` command with this use case; service, scribe and flows need the same key"
            ) from exc
    if len(text) < _SHORTEST_KEY:
        raise HashKeyMissing(f"the key of hashed ids is too short: {_SHORTEST_KEY} characters at least")
    return text.encode()


def require_hash_key(usecase: UseCase, settings: Settings) -> None:
    """Raise :class:`~bentos.errors.HashKeyMissing` where the use case hashes ids and there is no key."""
    if usecase.privacy.hashed:
        read_hash_key(settings)


def make_hash_key(settings: Settings) -> Path | None:
    """Make the key file with mode 0600 unless there is a key already; returns the file where one was made.

    Only commands that people type call this: a container that made a key of its own would silently
    store ids that match nobody else's.
    """
    path = settings.hash_key_file
    if settings.hash_key.get_secret_value() or path.exists():
        return None
    return path if make_secret(path, secrets.token_hex(32)) else None


def holds_card_number(text: str) -> bool:
    """Whether a text holds what may be a card number (ISO/IEC 7812): 13 to 19 digits with a Luhn check digit.

    Digits may be grouped by spaces, hyphens or dots. Whole groups are looked at, so a card number
    followed by an expiry date is found, and 13 digits inside a longer number are not one.
    """
    for run in _RUN.finditer(text):
        groups = _GROUP.findall(run.group())
        for start in range(len(groups)):
            digits = ""
            for group in groups[start:]:
                digits += group
                if len(digits) > _LONGEST_CARD:
                    break
                if len(digits) >= _SHORTEST_CARD and _luhn(digits):
                    return True
    return False


def _luhn(digits: str) -> bool:
    """Luhn's check (ISO/IEC 7812-1, annex B); a number that begins with 0 is no card."""
    values = [int(digit) for digit in digits]
    doubled_digits = (value * 2 - 9 if value > 4 else value * 2 for value in values[-2::-2])
    return values[0] != 0 and (sum(values[-1::-2]) + sum(doubled_digits)) % 10 == 0
