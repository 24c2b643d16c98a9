"""The reports behind their token: who gets in, and what a path may reach."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import uvicorn

from flows.console.app import Console
from flows.console.reports import find_report, list_reports
from flows.console.session import SESSION_S, Sessions, local_path
from flows.workspace.processes import free_port
from monitoring.core.hosts import AllowedHosts

TOKEN = "a-token-of-a-test-home"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    reports = tmp_path / "home" / "reports"
    (reports / "drift").mkdir(parents=True)
    (reports / "drift" / "page.html").write_text("<p>a report</p>")
    (reports / "scores.csv").write_text("event_id,score\ne1,0.5\n")
    (reports / ".hidden.html").write_text("hidden")
    (tmp_path / "home" / "prefect.login").write_text("admin:secret")
    (reports / "out.html").symlink_to(tmp_path / "home" / "prefect.login")
    (reports / "up").symlink_to(tmp_path / "home")
    (reports / "inside.html").symlink_to(reports / "drift" / "page.html")
    (reports / "loop").symlink_to(reports / "loop")
    os.mkfifo(reports / "pipe.html")
    return reports


@pytest.fixture
def stranger(folder: Path) -> Iterator[httpx.Client]:
    """A client of the real server that has no cookie yet."""
    app = Console(folder, Sessions(TOKEN, "incumbent-test")).app(AllowedHosts.of("127.0.0.1"))
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def browser(stranger: httpx.Client) -> httpx.Client:
    assert stranger.get("/login", params={"token": TOKEN}).status_code == 303
    return stranger


def test_nothing_but_the_probe_and_the_form_is_shown_without_the_token(stranger: httpx.Client) -> None:
    for path in ("/", "/drift/page.html", "/scores.csv", "/absent", "/up/prefect.login"):
        answer = stranger.get(path)
        assert answer.status_code == 401
        assert "report</p>" not in answer.text
        assert "scores.csv</a>" not in answer.text
    assert stranger.get("/livez").status_code == 200
    for guess in ("", "guess", TOKEN[:-1], TOKEN + "x", "ä"):
        assert stranger.get("/login", params={"token": guess}).status_code == 401
        assert stranger.post("/login", data={"token": guess}).status_code == 401
    assert not stranger.cookies


def test_a_link_with_the_token_becomes_a_cookie_that_scripts_and_other_sites_do_not_get(stranger: httpx.Client) -> None:
    answer = stranger.get("/login", params={"token": TOKEN, "next": "/drift/page.html"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/drift/page.html")
    words = answer.headers["set-cookie"].lower()
    assert "httponly" in words
    assert "samesite=strict" in words
    assert TOKEN not in answer.headers["set-cookie"]
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert stranger.get("/drift/page.html").text == "<p>a report</p>"
    assert stranger.post("/login", data={"token": f" {TOKEN} ", "next": "/"}).headers["location"] == "/"


def test_a_cookie_ends_and_cannot_be_made_longer() -> None:
    sessions = Sessions(TOKEN, "c")
    value = sessions.issue(1000.0)
    assert sessions.accepts(value, 1000.0 + SESSION_S - 1)
    assert not sessions.accepts(value, 1000.0 + SESSION_S + 1)
    ends, _, signature = value.partition(".")
    for forged in (f"{int(ends) + 9}.{signature}", signature, "", ".", f"{ends}.", f"ä.{signature}", f"{ends}.é"):
        assert not sessions.accepts(forged, 1000.0)
    assert not Sessions("another token of a home", "c").accepts(value, 1000.0)


def test_the_list_names_files_and_no_way_out(browser: httpx.Client) -> None:
    page = browser.get("/")
    assert page.status_code == 200
    for shown in ("drift/page.html", "scores.csv", "inside.html"):
        assert f">{shown}</a>" in page.text
    for kept in ("hidden", "out.html", "prefect.login", "pipe", "loop"):
        assert kept not in page.text


@pytest.mark.parametrize(
    "path",
    ["/out.html", "/up/prefect.login", "/..%2fprefect.login", "/drift/..%2f..%2fprefect.login", "/%2e%2e/prefect.login",
     "/.hidden.html", "/pipe.html", "/loop", "/drift", "/drift/", "/%00", "/..%5cprefect.login", "//prefect.login",
     "/%2fetc%2fpasswd"],
)  # fmt: skip
def test_a_path_that_leads_out_or_to_no_file_is_not_found(browser: httpx.Client, path: str) -> None:
    answer = browser.get(f"{str(browser.base_url).rstrip('/')}{path}")
    assert answer.status_code == 404
    assert "secret" not in answer.text
    assert "root:" not in answer.text


def test_pages_are_not_kept_framed_or_guessed_and_reports_ask_nobody(browser: httpx.Client) -> None:
    for path in ("/", "/drift/page.html", "/scores.csv", "/absent"):
        headers = browser.get(path).headers
        assert headers["cache-control"] == "no-store"
        assert headers["x-frame-options"] == "DENY"
        assert headers["x-content-type-options"] == "nosniff"
    policy = browser.get("/drift/page.html").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "sandbox allow-scripts" in policy
    assert "connect-src" not in policy
    assert browser.get("/scores.csv").headers["content-disposition"].startswith("attachment")


def test_other_names_other_sites_and_other_methods_are_refused(browser: httpx.Client) -> None:
    assert browser.get("/", headers={"Host": "evil.example"}).status_code == 421
    assert browser.get("/", headers={"Origin": "https://evil.example"}).status_code == 403
    forged = browser.post("/login", data={"token": TOKEN}, headers={"Origin": "https://evil.example"})
    assert forged.status_code == 403
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert browser.request(method, "/drift/page.html").status_code == 405
    assert browser.post("/login", content=b"token=" + b"x" * 100_000).status_code == 401


@pytest.mark.parametrize(
    "asked", ["//evil.example", "https://evil.example", "/\\evil.example", "\\\\evil", "evil", "", "/a\nb"]
)
def test_a_login_leads_to_a_page_of_this_server_only(asked: str) -> None:
    assert local_path(asked) == "/"
    assert local_path("/drift/page.html") == "/drift/page.html"


def test_the_newest_page_comes_first_and_tables_last(folder: Path) -> None:
    os.utime(folder / "drift" / "page.html", (1, 1))
    (folder / "new & <b>.html").write_text("x")
    os.utime(folder / "new & <b>.html", (time.time(), time.time()))
    lines = list_reports(folder)
    assert lines[0].name == "new & <b>.html"
    assert urlsplit(lines[0].link).path == "/new%20%26%20%3Cb%3E.html"
    assert lines[-1].name == "scores.csv"
    assert find_report(folder, "absent") is None
