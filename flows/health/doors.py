"""Whether the servers that we start keep strangers out: logins, foreign names and pages, what a run may say."""

from __future__ import annotations

from typing import Any, Final

import httpx

from flows.health.look import Finding, Place, ask, not_looked, ok, wrong
from flows.health.parts import NO_STACK
from flows.workspace.prefect_answers import PrefectServer, PrefectUnreachable

_FOREIGN: Final = "rebound.example.net"
_UPGRADE: Final = "Start the stack again: incumbent down, then incumbent up."


def prefect_login(place: Place) -> Finding:
    """The Prefect server asks for a login."""
    url = place.url("prefect")
    if not url:
        return not_looked(NO_STACK)
    answer = _get(place, f"{url}/admin/version")
    if answer is None:
        return not_looked("the Prefect server does not answer; see the line prefect")
    if answer.status_code == 401:
        return ok("an anonymous request is answered with 401")
    return wrong(f"an anonymous request is answered with {answer.status_code}: anybody may run code here", _UPGRADE)


def prefect_hosts(place: Place) -> Finding:
    """The Prefect server refuses foreign names and pages of other sites."""
    url = place.url("prefect")
    return not_looked(NO_STACK) if not url else _refuses(place, {"Prefect": f"{url}/health"}, login=_login(place))


def other_hosts(place: Place) -> Finding:
    """Service, exporter and reports refuse foreign names and pages of other sites."""
    if place.stack is None:
        return not_looked(NO_STACK)
    asked = {place.part("service"): "/model", "exporter": "/metrics", "reports": "/"}
    return _refuses(place, {part: place.url(part) + path for part, path in asked.items() if place.url(part)})


def _refuses(place: Place, urls: dict[str, str], login: tuple[str, str] | None = None) -> Finding:
    let_in, silent = [], []
    for name, url in urls.items():
        for what, headers in (("Host", {"Host": _FOREIGN}), ("Origin", {"Origin": f"https://{_FOREIGN}"})):
            answer = _get(place, url, headers, login)
            if answer is None:
                silent.append(name)
            elif answer.is_success and (
                what == "Host" or "access-control-allow-origin" in answer.headers or name != "Prefect"
            ):
                let_in.append(f"{name} takes a foreign {what}")
    if let_in:
        return wrong("; ".join(let_in), _UPGRADE)
    if silent:
        return not_looked(f"no answer from {', '.join(dict.fromkeys(silent))}")
    return ok(f"{', '.join(urls)} refused a foreign Host and a page of another site")


def reports(place: Place) -> Finding:
    """The reports ask for their token."""
    url = place.url("reports")
    if not url:
        return not_looked(NO_STACK)
    answer = _get(place, f"{url}/")
    if answer is None:
        return wrong("the reports' server does not answer", "Look at logs/reports.log.")
    listing = answer.is_success and ("Directory listing" in answer.text or "<li><a href" in answer.text)
    if listing:
        return wrong("anybody may list and read the reports", _UPGRADE)
    return ok(f"a request without the token is answered with {answer.status_code} and shows no report")


def work_pool(place: Place) -> Finding:
    """A run cannot say which command the worker runs, nor with which variables."""
    from flows.stack.parts import POOL

    url = place.environ.get("PREFECT_API_URL", "")
    if not url:
        return not_looked("no Prefect server is known here")
    try:
        with PrefectServer(url, place.environ.get("PREFECT_API_AUTH_STRING", ""), place.timeout_s) as server:
            template: dict[str, Any] = dict(server.pool(POOL).get("base_job_template") or {})
    except PrefectUnreachable as exc:
        return wrong(f"the Prefect server: {exc}", "See the line prefect.")
    variables = template.get("variables", {}).get("properties", {})
    loose = [name for name in ("command", "env") if name in variables]
    if loose:
        return wrong(f"a run may set {' and '.join(loose)}: whoever starts one runs any command", _UPGRADE)
    return ok("a run may set neither command nor variables of the worker")


def _login(place: Place) -> tuple[str, str] | None:
    user, colon, password = place.environ.get("PREFECT_API_AUTH_STRING", "").partition(":")
    return (user, password) if colon else None


def _get(
    place: Place, url: str, headers: dict[str, str] | None = None, login: tuple[str, str] | None = None
) -> httpx.Response | None:
    try:
        return ask(place, url, headers, login)
    except httpx.HTTPError:
        return None
