"""API keys: made once, stored hashed, refused for the right reason."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bentos.errors import KeyFileError, KeyInvalid, KeyMissing, ScopeMissing
from bentos.keys import KeyRing, add_key, read_keys, revoke_key
from bentos.keys.__main__ import main

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Clock:
    """Monotonic seconds that stand still until told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_key_opens_what_its_scopes_say_and_nothing_else(tmp_path: Path) -> None:
    _, token = add_key(tmp_path / "keys.json", "checkout", ["score", "label"], NOW)
    ring = KeyRing.load(tmp_path / "keys.json")
    assert ring.check(token, "score", NOW).owner == "checkout"
    assert ring.check(token, None, NOW).scopes == ("score", "label")
    for scope in ("admin", "approve"):
        with pytest.raises(ScopeMissing, match=scope):
            ring.check(token, scope, NOW)  # type: ignore[arg-type]  # the loop's word is a scope


def test_the_file_holds_no_secret_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "keys.json"
    key, token = add_key(path, "checkout", ["score"], NOW)
    secret = token.removeprefix(f"inc_{key.id}_")
    assert len(secret) >= 43
    assert secret not in path.read_text()
    assert json.loads(path.read_text())["keys"][0]["sha256"] == hashlib.sha256(secret.encode()).hexdigest()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert secret not in repr(key)


@pytest.mark.parametrize("token", [None, ""])
def test_without_a_key_the_answer_is_that_one_is_missing(tmp_path: Path, token: str | None) -> None:
    add_key(tmp_path / "keys.json", "checkout", ["score"], NOW)
    with pytest.raises(KeyMissing, match="X-API-Key"):
        KeyRing.load(tmp_path / "keys.json").check(token, "score", NOW)


def test_wrong_unknown_and_malformed_keys_are_refused_with_one_text(tmp_path: Path) -> None:
    key, token = add_key(tmp_path / "keys.json", "checkout", ["score"], NOW)
    ring = KeyRing.load(tmp_path / "keys.json")
    said = set()
    wrong = [
        token + "x",
        token[:-1],
        f"inc_{key.id}_",
        f"inc_000000000000_{token[17:]}",
        "inc",
        "inc_",
        "_",
        "x" * 9999,
    ]
    for bad in [
        *wrong,
        token.upper(),
        "key-ключ",
        "\ud800",
        f"INC{token[3:]}",
        key.digest,
        f"inc_{key.id}_{key.digest}",
    ]:
        with pytest.raises(KeyInvalid) as refused:
            ring.check(bad, "score", NOW)
        said.add(str(refused.value))
    assert len(said) == 1


def test_an_unknown_id_is_compared_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_key(tmp_path / "keys.json", "checkout", ["score"], NOW)
    ring = KeyRing.load(tmp_path / "keys.json")
    compared: list[tuple[str, str]] = []

    def compare(left: str, right: str) -> bool:
        compared.append((left, right))
        return left == right

    monkeypatch.setattr("bentos.keys.hmac.compare_digest", compare)
    with pytest.raises(KeyInvalid):
        ring.check("inc_unknown_secret", "score", NOW)
    assert [len(side) for side in compared[0]] == [64, 64]


def test_a_key_ends_when_it_expires_or_is_revoked(tmp_path: Path) -> None:
    path, clock = tmp_path / "keys.json", Clock()
    _, brief = add_key(path, "a trial", ["score"], NOW, NOW + timedelta(hours=1))
    key, lasting = add_key(path, "checkout", ["score"], NOW)
    ring = KeyRing(path, clock)
    assert ring.check(brief, "score", NOW + timedelta(minutes=59)).owner == "a trial"
    with pytest.raises(KeyInvalid):
        ring.check(brief, "score", NOW + timedelta(hours=1))
    revoke_key(path, key.id, NOW)
    assert ring.check(lasting, "score", NOW)  # the file is looked at once a second
    clock.now += 1.0
    with pytest.raises(KeyInvalid):
        ring.check(lasting, "score", NOW)
    assert [k.state(NOW) for k in read_keys(path)] == ["valid", "revoked"]


def test_a_key_that_was_added_is_seen_within_a_second_and_the_disk_is_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, clock = tmp_path / "keys.json", Clock()
    _, first = add_key(path, "one", ["score"], NOW)
    ring = KeyRing(path, clock)
    _, second = add_key(path, "two", ["score"], NOW)
    asked: list[Path] = []
    original = Path.stat
    monkeypatch.setattr(Path, "stat", lambda self, **kw: (asked.append(self), original(self, **kw))[1])
    for _ in range(50):
        ring.check(first, "score", NOW)
    assert asked == []
    clock.now += 1.0
    assert ring.check(second, "score", NOW).owner == "two"
    assert len(ring) == 2


def test_a_file_that_breaks_leaves_the_last_good_keys_in_force(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, clock = tmp_path / "keys.json", Clock()
    _, token = add_key(path, "checkout", ["score"], NOW)
    ring = KeyRing(path, clock)
    path.write_text("{")
    clock.now += 1.0
    assert ring.check(token, "score", NOW)
    path.unlink()
    clock.now += 1.0
    assert ring.check(token, "score", NOW)
    assert [r.levelname for r in caplog.records] == ["ERROR", "ERROR"]
    assert token not in caplog.text


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"format": 2, "keys": []}', '{"format": 1, "keys": [{"id": "x"}]}']
)
def test_a_file_that_is_no_key_file_is_refused_at_the_start(tmp_path: Path, content: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(content)
    with pytest.raises(KeyFileError, match="no key file"):
        KeyRing.load(path)


def test_a_missing_file_names_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="incumbent keys add"):
        KeyRing.load(tmp_path / "keys.json")


def test_a_file_that_others_may_write_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    add_key(path, "checkout", ["score"], NOW)
    os.chmod(path, 0o622)
    with pytest.raises(KeyFileError, match="chmod 600"):
        KeyRing.load(path)


def test_keys_that_are_added_at_once_are_all_kept(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    adders = [threading.Thread(target=add_key, args=(path, f"owner {n}", ["score"], NOW)) for n in range(8)]
    for adder in adders:
        adder.start()
    for adder in adders:
        adder.join()
    assert sorted(key.owner for key in read_keys(path)) == [f"owner {n}" for n in range(8)]
    assert {p.name for p in tmp_path.iterdir()} == {"keys.json", "keys.json.lock"}


def test_the_command_makes_lists_and_revokes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("INCUMBENT_KEYS", str(tmp_path / "my-keys.json"))
    words = ["add", "--owner", "checkout", "--scope", "score", "--scope", "label", "--expires", "90d", "--json"]
    assert main(words) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["scopes"] == ["score", "label"]
    assert KeyRing.load(tmp_path / "my-keys.json").check(made["key"], "score", datetime.now(UTC)).id == made["id"]
    assert main(["list"]) == 0
    shown = capsys.readouterr().out
    assert made["id"] in shown
    assert made["key"].split("_", 2)[2] not in shown
    assert main(["revoke", made["id"], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "revoked"
    assert main(["list", "--json"]) == 0
    assert [key["state"] for key in json.loads(capsys.readouterr().out)["keys"]] == ["revoked"]


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (["revoke", "nobody"], 1, "make it with"),
        (["add", "--owner", " ", "--scope", "score"], 1, "owner"),
        (["add", "--owner", "x", "--scope", "score", "--expires", "2020-01-01T00:00Z"], 1, "expire"),
        (["add", "--owner", "x", "--scope", "score", "--expires", "soon"], 1, "90d"),
        (["add", "--owner", "x", "--scope", "score", "--expires", "2030-01-01"], 1, "offset"),
        (["add", "--owner", "x", "--scope", "everything"], 2, "everything"),
        (["add", "--owner", "x"], 2, "--scope"),
        ([], 2, "add|list|revoke"),
    ],
)
def test_the_command_says_what_is_wrong(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    code: int,
    named: str,
) -> None:
    monkeypatch.setenv("INCUMBENT_KEYS", str(tmp_path / "keys.json"))
    try:
        found = main(words)
    except SystemExit as ended:
        found = int(str(ended.code))
    assert found == code
    assert named in capsys.readouterr().err
    assert not (tmp_path / "keys.json").exists()
