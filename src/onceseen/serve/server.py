"""uvicorn with our limits: a request whose head does not come in time is hung up on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from onceseen.serve.answers import ErrorAnswer
from onceseen.serve.settings import ServeSettings

_HEAD_BYTES = 32 << 10


def _protocol(head_timeout_s: float) -> type[H11Protocol]:
    """Uvicorn's protocol, which by itself waits for a request's head for ever."""

    class TimedProtocol(H11Protocol):
        """Closes a connection on which a request has begun, or could, and its head is not there in time."""

        _late: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._late = self.loop.call_later(head_timeout_s, self._hang_up)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            under_way = self.cycle is not None and not self.cycle.response_complete
            if under_way and self._late is not None:
                self._late.cancel()
                self._late = None
            elif not under_way and self._late is None and not self.transport.is_closing():
                self._late = self.loop.call_later(head_timeout_s, self._hang_up)

        def connection_lost(self, exc: Exception | None) -> None:
            if self._late is not None:
                self._late.cancel()
            super().connection_lost(exc)

        def send_400_response(self, msg: str) -> None:
            body = ErrorAnswer(error="bad_request", detail=msg).model_dump_json().encode()
            headers = [
                ("content-type", "application/json"),
                ("content-length", str(len(body))),
                ("connection", "close"),
            ]
            response = h11.Response(status_code=400, headers=headers, reason=b"Bad Request")
            with contextlib.suppress(h11.LocalProtocolError):  # an answer is on its way already
                for event in (response, h11.Data(data=body), h11.EndOfMessage()):
                    self.transport.write(self.conn.send(event) or b"")
            self.transport.close()

        def _hang_up(self) -> None:
            self._late = None
            if self.cycle is None or self.cycle.response_complete:
                self.transport.close()

    return TimedProtocol


def make_server(app: FastAPI, settings: ServeSettings, **options: Any) -> uvicorn.Server:
    """A server that is not started.

    Args:
        app: The endpoints.
        settings: Address and limits.
        options: Further options of uvicorn's.
    """
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=_protocol(settings.body_timeout_s),
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_level=logging.WARNING,
        access_log=False,
        server_header=False,
        h11_max_incomplete_event_size=_HEAD_BYTES,
        limit_concurrency=4 * settings.queue + 16,
        timeout_graceful_shutdown=max(1, round(settings.shutdown_s)),
        **options,
    )
    return uvicorn.Server(config)
