"""The connection to Redis, and the two scripts that run there. The only module that imports redis."""

from __future__ import annotations

import hashlib
from typing import Any, Final

import redis
from redis.connection import ConnectionPool

from bentos.errors import SettingsError, WindowsUnavailable

OTHER_EPOCH: Final = "the shared state began anew"
_TIMEOUT_SECONDS: Final = 1.0

# KEYS epoch, order, count. ARGV epoch, last place, prefix of answers, owner, lease, number of fields, the
# fields of one entry (its kind and content, in turn), then the ids to be claimed, one for each event field.
TURN: Final = b"""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return redis.error_reply('EPOCH') end
local missed = redis.call('XRANGE', KEYS[2], '(' .. ARGV[2], '+')
local fields, known, mine = {}, {}, '?' .. ARGV[4]
local last = 7 + tonumber(ARGV[7])
for i = 8, last, 2 do
  local id = ARGV[last + (i - 6) / 2]
  local held = ''
  if id then
    local key = ARGV[3] .. id
    held = redis.call('GET', key) or ''
    if string.sub(held, 1, #mine) == mine then held = string.sub(held, #mine + 1) end
    if held == '' or (string.sub(held, 1, 1) ~= '?' and string.sub(held, -1) == ' ') then
      redis.call('SET', key, mine .. held, 'PX', ARGV[5])
    end
    known[#known + 1] = held
  end
  if held == '' then
    fields[#fields + 1] = ARGV[i]
    fields[#fields + 1] = ARGV[i + 1]
  end
end
local count, place = tonumber(redis.call('GET', KEYS[3]) or '0'), ''
if #fields > 0 then
  count = redis.call('INCR', KEYS[3])
  place = redis.call('XADD', KEYS[2], '*', 'n', count, 'y', ARGV[6], unpack(fields))
end
return {missed, known, count, place}
"""
# KEYS the prefix of answers, owner. ARGV id, value, life in ms, in turn. The first answer stays; a value
# that ends with a space says that the event was sent and not scored: it makes way for an answer.
SETTLE: Final = b"""
for i = 1, #ARGV, 3 do
  local held = redis.call('GET', KEYS[1] .. ARGV[i])
  local open = held and (string.sub(held, 1, 1) == '?' or string.sub(held, -1) == ' ')
  if not held or (open and string.sub(ARGV[i + 1], -1) ~= ' ') or held == '?' .. KEYS[2] then
    redis.call('SET', KEYS[1] .. ARGV[i], ARGV[i + 1], 'PX', ARGV[i + 2])
  end
end
return #ARGV / 3
"""
SCRIPTS: Final = {script: hashlib.sha1(script, usedforsecurity=False).hexdigest() for script in (TURN, SETTLE)}


class Link:
    """One connection, used by one thread at a time; opened when it is needed.

    Attributes:
        run_id: names the life of the server that it leads to; empty before the first connection.

    Raises:
        SettingsError: the address is none.
    """

    def __init__(self, url: str) -> None:
        self.run_id = b""
        _wire_to(url)  # so that a wrong address is told at once
        self._url = url
        self._connection: Any = None
        self._unread_replies = 0

    def open(self) -> None:
        """Connect where that is not done, and load the scripts."""
        if self._connection is not None:
            return
        wire: Any = _wire_to(self._url)
        try:
            wire.connect()
            for command in (("INFO", "server"), *(("SCRIPT", "LOAD", script) for script in SCRIPTS)):
                wire.send_command(*command)
                response = wire.read_response()
                if command[0] == "INFO":
                    self.run_id = _run_id(response)
        except (redis.RedisError, OSError) as exc:
            wire.disconnect()
            raise _away(exc) from exc
        self._connection = wire

    def call(self, *command: Any) -> Any:
        """Send a command and wait for its reply; raises :class:`WindowsUnavailable`."""
        self.send(*command)
        try:
            for _ in range(self._unread_replies - 1):
                self._connection.read_response()
            return self._connection.read_response()
        except (redis.RedisError, OSError) as exc:
            self.close()
            raise _away(exc) from exc
        finally:
            self._unread_replies = 0

    def send(self, *command: Any) -> None:
        """Send a command; its reply is read with that of the next :meth:`call`."""
        self.open()
        try:
            self._connection.send_packed_command(self._connection.pack_command(*command), check_health=False)
        except (redis.RedisError, OSError) as exc:
            self.close()
            raise _away(exc) from exc
        self._unread_replies += 1

    def close(self) -> None:
        """Close the connection; the next use opens another one."""
        wire, self._connection, self._unread_replies = self._connection, None, 0
        if wire is not None:
            wire.disconnect()


def _wire_to(url: str) -> Any:
    """A connection that is not open yet. It never tries again by itself: a server that is back may be another one."""
    try:
        pool = ConnectionPool.from_url(url, socket_timeout=_TIMEOUT_SECONDS, socket_connect_timeout=_TIMEOUT_SECONDS)
    except ValueError as exc:
        raise SettingsError("INCUMBENT_REDIS_URL: allowed are redis://, rediss:// and unix:// addresses") from exc
    return pool.make_connection()


def _away(error: Exception) -> WindowsUnavailable:
    """What a failure means; the server's own words may hold an id, so only its kind is told."""
    if isinstance(error, redis.ResponseError) and str(error).startswith("EPOCH"):
        return WindowsUnavailable(OTHER_EPOCH)
    return WindowsUnavailable(f"Redis cannot be used: {type(error).__name__}")


def _run_id(info: Any) -> bytes:
    lines = info.splitlines() if isinstance(info, bytes) else []
    return next((line.partition(b":")[2] for line in lines if line.startswith(b"run_id:")), b"?")
