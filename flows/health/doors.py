"""Whether the servers that we start keep strangers out: logins, foreign names and pages, what a run may say."""

from __future__ import annotations

from typing import Any, Final

import httpx

from flows.health.look import HealthContext, HealthFinding, http_get, not_checked, ok, wrong
from flows.health.parts import NO_STACK
from flows.workspace.prefect_answers import PrefectServer, PrefectUnreachable

_FOREIGN: Final = "rebound.example.net"
_UPGRADE: Final = "Start the stack again: incumbent down, then incumbent up."


def prefect_login(context: HealthContext) -> HealthFinding:
    """The Prefect server asks for a login."""
    url = context.url("prefect")
    if not url:
        return not_checked(NO_STACK)
    answer = _get(context, f"{url}/admin/version")
    if answer is None:
        return not_checked("the Prefect server does not answer; see the line prefect")
    if answer.status_code == 401:
        return ok("an anonymous request is answered with 401")
    return wrong(f"an anonymous request is answered with {answer.status_code}: anybody may run code here", _UPGRADE)


def prefect_hosts(context: HealthContext) -> HealthFinding:
    """The Prefect server refuses foreign names and pages of other sites."""
    url = context.url("prefect")
    return (
        not_checked(NO_STACK)
        if not url
        else _check_refusal(context, {"Prefect": f"{url}/health"}, login=_login(context))
    )


def other_hosts(context: HealthContext) -> HealthFinding:
    """Service, exporter and reports refuse foreign names and pages of other sites."""
    if context.stack is None:
        return not_checked(NO_STACK)
    paths = {context.part("service"): "/model", "exporter": "/metrics", "reports": "/"}
    return _check_refusal(
        context, {part: context.url(part) + path for part, path in paths.items() if context.url(part)}
    )


def _check_refusal(context: HealthContext, urls: dict[str, str], login: tuple[str, str] | None = None) -> HealthFinding:
    accepting, silent_parts = [], []
    for name, url in urls.items():
        for header, headers in (("Host", {"Host": _FOREIGN}), ("Origin", {"Origin": f"https://{_FOREIGN}"})):
            answer = _get(context, url, headers, login)
            if answer is None:
                silent_parts.append(name)
            elif answer.is_success and (
                header == "Host" or "access-control-allow-origin" in answer.headers or name != "Prefect"
            ):
                accepting.append(f"{name} takes a foreign {header}")
    if accepting:
        return wrong("; ".join(accepting), _UPGRADE)
    if silent_parts:
        return not_checked(f"no answer from {', '.join(dict.fromkeys(silent_parts))}")
    return ok(f"{', '.join(urls)} refused a foreign Host and a page of another site")


def reports(context: HealthContext) -> HealthFinding:
    """The reports ask for their token."""
    url = context.url("reports")
    if not url:
        return not_checked(NO_STACK)
    answer = _get(context, f"{url}/")
    if answer is None:
        return wrong("the reports' server does not answer", "Look at logs/reports.log.")
    listing = answer.is_success and ("Directory listing" in answer.text or "<li><a href" in answer.text)
    if listing:
        return wrong("anybody may list and read the reports", _UPGRADE)
    return ok(f"a request without the token is answered with {answer.status_code} and shows no report")


def work_pool(context: HealthContext) -> HealthFinding:
    """A run cannot say which command the worker runs, nor with which variables."""
    from flows.stack.parts import POOL

    url = context.environ.get("PREFECT_API_URL", "")
    if not url:
        return not_checked("no Prefect server is known here")
    try:
        with PrefectServer(url, context.environ.get("PREFECT_API_AUTH_STRING", ""), context.timeout_s) as server:
            template: dict[str, Any] = dict(server.pool(POOL).get("base_job_template") or {})
    except PrefectUnreachable as exc:
        return wrong(f"the Prefect server: {exc}", "See the line prefect.")
    variables = template.get("variables", {}).get("properties", {})
    settable = [name for name in ("command", "env") if name in variables]
    if settable:
        return wrong(f"a run may set {' and '.join(settable)}: whoever starts one runs any command", _UPGRADE)
    return ok("a run may set neither command nor variables of the worker")


def _login(context: HealthContext) -> tuple[str, str] | None:
    user, colon, password = context.environ.get("PREFECT_API_AUTH_STRING", "").partition(":")
    return (user, password) if colon else None


def _get(
    context: HealthContext, url: str, headers: dict[str, str] | None = None, login: tuple[str, str] | None = None
) -> httpx.Response | None:
    try:
        return http_get(context, url, headers, login)
    except httpx.HTTPError:
        return None
