"""Every curl example of the README and of the description of the interface, run as it stands there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass

import pytest

from tests.support.processes.servers import PROJECT, Server, Shared

DOCUMENTS = ("README.md", "docs/reference/api.md")
_BLOCK = re.compile(r"^```[a-z]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
# A command goes on while a quote is open, or after a backslash.
_COMMAND = re.compile(
    r"""^(?:\# answers (?P<status>\d{3})\n)?\$ (?P<command>curl(?:'[^']*'|"[^"]*"|\\\n|[^'"\n\\])+)$""", re.MULTILINE
)


@dataclass(frozen=True)
class Example:
    """One command and the status that it should be answered with."""

    place: str
    command: str
    status: int


def examples(document: str) -> list[Example]:
    text = (PROJECT / document).read_text(encoding="utf-8")
    found = [match for block in _BLOCK.findall(text) for match in _COMMAND.finditer(block)]
    return [
        Example(f"{document} {number}", match["command"], int(match["status"] or 200))
        for number, match in enumerate(found, 1)
    ]


ALL = [example for document in DOCUMENTS for example in examples(document)]


@pytest.fixture(scope="module")
def server(shared_service: Shared) -> Server:
    return shared_service.get()


def test_every_curl_of_the_documents_is_found() -> None:
    for document in DOCUMENTS:
        assert len(examples(document)) == (PROJECT / document).read_text(encoding="utf-8").count("$ curl") > 0


@pytest.mark.parametrize("example", ALL, ids=[example.place for example in ALL])
def test_a_curl_example_does_what_is_said(server: Server, example: Example) -> None:
    if shutil.which("curl") is None:
        if os.environ.get("INCUMBENT_REQUIRE_SYSTEM"):
            pytest.fail("the package curl is missing")
        pytest.skip("needs the package curl")
    command = example.command.replace("http://127.0.0.1:3000", server.url)
    assert server.url in command
    command = command.replace("curl ", "curl -w '\\n%{http_code}' ", 1)
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=600, env={**os.environ, "KEY": "x"}
    )
    assert done.returncode == 0, done.stderr
    body, _, status = done.stdout.rpartition("\n")
    assert int(status) == example.status, body
    assert body.startswith(("{", "["))
