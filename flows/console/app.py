"""The operators' pages as an ASGI application: a login, and the reports behind it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from jinja2 import Environment, PackageLoader
from starlette.applications import Starlette
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from flows.console.reports import find_report, list_reports
from flows.console.session import SESSION_S, Sessions, local_path
from monitoring.core.hosts import AllowedHosts, HostCheck

if TYPE_CHECKING:
    from starlette.requests import Request

LOGIN = "/login"
_FORM_BYTES = 4096

_COMMON = {
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_PAGE = {
    **_COMMON,
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
}
# Reports are whole in themselves: scripts, styles, images and fonts of their own. They ask nobody anything, and the
# sandbox gives each an origin of its own, so that what one holds can never read another with the reader's cookie.
_REPORT = {
    **_COMMON,
    "content-security-policy": "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'unsafe-inline'; img-src data: blob:; font-src data:; worker-src blob:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; sandbox allow-scripts allow-downloads",
}


class Console:
    """Answers for one home.

    Args:
        reports: the folder whose files are shown.
        sessions: who may see them.
        clock: seconds since the epoch.
    """

    def __init__(self, reports: Path, sessions: Sessions, clock: Callable[[], float] = time.time) -> None:
        self._reports = reports
        self._sessions = sessions
        self._clock = clock
        self._templates = Environment(loader=PackageLoader("flows.console"), autoescape=True)

    def app(self, allowed: AllowedHosts) -> HostCheck:
        """The application, behind the check of Host and Origin."""
        return HostCheck(
            Starlette(
                routes=[
                    Route("/livez", self._alive),
                    Route(LOGIN, self._log_in, methods=["GET", "POST"]),
                    Route("/", self._index),
                    Route("/{name:path}", self._report),
                ]
            ),
            allowed,
        )

    async def _alive(self, _: Request) -> Response:
        return PlainTextResponse("alive\n", headers=_COMMON)

    async def _log_in(self, request: Request) -> Response:
        """A link with the token, or the form, becomes a cookie; the address that is left holds no token."""
        fields = await _form(request) if request.method == "POST" else dict(request.query_params)
        target = local_path(fields.get("next", "/"))
        token = fields.get("token", "").strip()
        if not self._sessions.knows(token):
            return self._ask(target, "That token is not the one of this installation." if token else "")
        response = RedirectResponse(target, status_code=303, headers=_PAGE)
        response.set_cookie(
            self._sessions.cookie, self._sessions.issue(self._clock()), max_age=SESSION_S, path="/", httponly=True,
            samesite="strict", secure=request.url.scheme == "https",
        )  # fmt: skip
        return response

    async def _index(self, request: Request) -> Response:
        if not self._is_logged_in(request):
            return self._ask("/")
        return self._page("reports.html", files=list_reports(self._reports))

    async def _report(self, request: Request) -> Response:
        if not self._is_logged_in(request):
            return self._ask(local_path(request.url.path))
        path = find_report(self._reports, request.path_params["name"])
        if path is None:
            return PlainTextResponse("there is no such report\n", 404, _COMMON)
        if path.suffix != ".html":
            return FileResponse(path, headers=_REPORT, filename=path.name)
        return FileResponse(path, headers=_REPORT, media_type="text/html; charset=utf-8")

    def _is_logged_in(self, request: Request) -> bool:
        value = request.cookies.get(self._sessions.cookie, "")
        return self._sessions.accepts(value, self._clock())

    def _ask(self, target: str, problem: str = "") -> Response:
        return self._page("login.html", 401, target=target, problem=problem)

    def _page(self, template: str, status: int = 200, **values: object) -> Response:
        return HTMLResponse(self._templates.get_template(template).render(**values), status, _PAGE)


async def _form(request: Request) -> Mapping[str, str]:
    """The fields of a posted form; none where it is longer than a login can be."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _FORM_BYTES:
            return {}
    return {name: values[0] for name, values in parse_qs(body.decode("latin-1")).items()}
