"""The endpoints: POST /check, POST /check/batch, GET /healthz, GET /metrics, and the API's own description."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException

import onceseen
from onceseen.reference import Check, Reference, SourceUnreachableError
from onceseen.serve.answers import BatchAnswer, CheckAnswer, ErrorAnswer, HealthAnswer
from onceseen.serve.batches import Batcher
from onceseen.serve.bodies import Held, read_pictures
from onceseen.serve.keeping import QueryKeeper
from onceseen.serve.metrics import Metrics
from onceseen.serve.page import api_page
from onceseen.serve.problems import Problem, undecodable
from onceseen.serve.settings import ServeSettings

_log = logging.getLogger(__name__)
_OPEN_PATHS = ("/healthz", "/docs", "/openapi.json")
"""What a token is not asked for."""
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer, "description": meaning}
    for status, meaning in {
        401: "The bearer token is missing or another one.",
        408: "The body came too slowly.",
        413: "Too many bytes, pixels or pictures.",
        415: "No picture, or a body of another type.",
        422: "A damaged or empty picture, or a broken form.",
        429: "Too many requests at a time; see Retry-After.",
        503: "A picture of the reference cannot be read again.",
        504: "The answer took too long.",
    }.items()
}
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FILE = {"type": "string", "format": "binary"}


def _form(properties: dict[str, Any]) -> dict[str, Any]:
    return {"schema": {"type": "object", "properties": properties, "required": list(properties)}}


_ONE_BODY = {
    "image/*": _BINARY,
    "application/octet-stream": _BINARY,
    "multipart/form-data": _form({"image": _FILE}),
}
_MANY_BODY = {"multipart/form-data": _form({"images": {"type": "array", "items": _FILE}})}


def _body(content: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": content}}


class _Service:
    """What the endpoints share."""

    def __init__(self, reference: Reference, settings: ServeSettings) -> None:
        self.reference = reference
        self.settings = settings
        self.keeper = QueryKeeper(settings.keep_queries) if settings.keep_queries else None
        self.open = 0
        self.held = Held(settings.held_bytes)
        self.batcher: Batcher | None = None
        self.metrics = Metrics(len(reference), lambda: self.batcher.waiting if self.batcher else 0)

    @asynccontextmanager
    async def running(self, _app: FastAPI) -> AsyncIterator[None]:
        """Loads the model, gathers batches until the server stops."""
        await asyncio.to_thread(self.reference.warm_up)
        s = self.settings
        self.batcher = Batcher(
            self.reference.check, s.batch, s.window_s, s.workers, self.metrics.batch.observe
        )
        self.batcher.start()
        try:
            yield
        finally:
            await self.batcher.stop()

    async def answer(self, request: Request, count: int) -> list[Check]:
        """Reads a request's pictures and checks them.

        Raises:
            Problem: As its status says.
        """
        settings = self.settings
        if self.open >= settings.queue or self.batcher is None:
            raise Problem(429, "busy", f"{self.open} requests are under way", {"retry-after": "1"})
        self.open += 1
        self.metrics.open.set(self.open)
        try:
            with self.held.share() as take:
                pictures = await read_pictures(request, settings, count, take)
                async with asyncio.timeout(settings.timeout_s):
                    checks = await self.batcher.submit(pictures)
        except TimeoutError as error:
            raise Problem(504, "timeout", f"no answer within {settings.timeout_s:g} s") from error
        except SourceUnreachableError as error:
            _log.error("%s", error)
            detail = (
                "a picture of the reference cannot be read again; the server's log says which, and what to do"
            )
            raise Problem(503, "source_unreachable", detail) from error
        finally:
            self.open -= 1
            self.metrics.open.set(self.open)
        for check in checks:
            self.metrics.findings.labels(str(check.finding)).inc()
        await self._keep(pictures, checks)
        return checks

    async def _keep(self, pictures: Sequence[bytes], checks: Sequence[Check]) -> None:
        if self.keeper is not None:
            for picture, check in zip(pictures, checks, strict=True):
                await asyncio.to_thread(self.keeper.keep, picture, check)

    def authorise(self, request: Request) -> None:
        """Compares the token, in a time that does not depend on where it differs.

        Raises:
            Problem: 401.
        """
        token = self.settings.token
        if not token or request.url.path in _OPEN_PATHS:
            return
        given = request.headers.get("authorization", "").encode("latin-1", "replace")
        if not hmac.compare_digest(given, b"Bearer " + token.encode()):
            detail = "expected the header Authorization: Bearer TOKEN"
            raise Problem(401, "unauthorized", detail, {"www-authenticate": "Bearer"})


def create_app(reference: Reference, settings: ServeSettings) -> FastAPI:
    """The app; it owns no thread or model before it is started.

    Args:
        reference: What is searched.
        settings: Limits.

    Raises:
        ValueError: If `keep_queries` cannot be written.
    """
    service = _Service(reference, settings)
    app = FastAPI(
        title="Onceseen",
        version=onceseen.__version__,
        description="Is this picture a direct duplicate of a training picture? Nothing of a query is stored"
        + (" but in the directory of --keep-queries." if settings.keep_queries else "."),
        docs_url=None,
        redoc_url=None,
        lifespan=service.running,
    )
    app.state.service = service
    _add_guard(app, service)
    _add_checks(app, service)
    _add_others(app, service)
    return app


def _add_guard(app: FastAPI, service: _Service) -> None:
    """Counts, authorises, and turns whatever is raised into JSON."""

    @app.middleware("http")
    async def guard(request: Request, call: Callable[[Request], Awaitable[Response]]) -> Response:
        started = time.perf_counter()
        try:
            service.authorise(request)
            response = await call(request)
        except Problem as problem:
            response = _error(problem)
        except Exception:
            # The sentence, not the trace, goes to the client; neither holds anything of the query.
            _log.exception("a request failed")
            response = _error(Problem(500, "internal", "the server failed; its log says why"))
        route = request.scope.get("route")
        endpoint = getattr(route, "path", "other")
        service.metrics.requests.labels(endpoint, str(response.status_code)).inc()
        service.metrics.seconds.labels(endpoint).observe(time.perf_counter() - started)
        return response

    @app.exception_handler(Problem)
    async def problem(_request: Request, found: Problem) -> Response:
        return _error(found)

    @app.exception_handler(HTTPException)
    async def other(_request: Request, found: HTTPException) -> Response:
        names = {404: "not_found", 405: "method_not_allowed"}
        headers = dict(found.headers or {})
        return _error(
            Problem(found.status_code, names.get(found.status_code, "http"), str(found.detail), headers)
        )


def _error(problem: Problem) -> JSONResponse:
    answer = ErrorAnswer(error=problem.error, detail=problem.detail)
    return JSONResponse(answer.model_dump(), problem.status, problem.headers)


def _add_checks(app: FastAPI, service: _Service) -> None:
    @app.post(
        "/check",
        response_model=CheckAnswer,
        responses=_PROBLEMS,
        openapi_extra=_body(_ONE_BODY),
        tags=["check"],
    )
    async def check(request: Request) -> CheckAnswer:
        """Checks one picture: the body itself, or the one file of a form."""
        (found,) = await service.answer(request, 1)
        if found.reason:
            raise undecodable(found.reason, found.detail)
        return CheckAnswer.of(found)

    @app.post(
        "/check/batch",
        response_model=BatchAnswer,
        responses=_PROBLEMS,
        openapi_extra=_body(_MANY_BODY),
        tags=["check"],
    )
    async def check_batch(request: Request) -> BatchAnswer:
        """Checks the files of a form, answers in their order; one that cannot be judged is failed, with its reason."""
        found = await service.answer(request, service.settings.max_images)
        return BatchAnswer(checks=[CheckAnswer.of(one) for one in found])


def _add_others(app: FastAPI, service: _Service) -> None:
    @app.get("/healthz", response_model=HealthAnswer, tags=["about"])
    async def healthz() -> HealthAnswer:
        """Says that the server is up and what it searches; asks for no token."""
        return HealthAnswer(
            status="ok",
            samples=len(service.reference),
            model=service.reference.config.embed.model.rpartition("/")[2],
            version=onceseen.__version__,
        )

    @app.get("/metrics", response_class=Response, responses={401: _PROBLEMS[401]}, tags=["about"])
    async def metrics() -> Response:
        """Counts and times for Prometheus."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/docs", response_class=HTMLResponse, include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(api_page(app.openapi()))
