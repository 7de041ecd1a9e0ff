"""Limits of the server, checked before it starts."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """How the server listens and what it takes.

    Attributes:
        host: Address to listen on.
        port: Port; 0: any that is free.
        token: Bearer token that requests must carry; empty: none.
        insecure: Whether a public address without a token is meant.
        max_bytes: Bytes of one picture.
        max_images: Pictures of one /check/batch.
        max_form_bytes: Bytes of all of them together.
        held_bytes: Bytes of all requests' bodies together; further ones get 429.
        queue: Requests that are read or worked on at a time; further ones get 429.
        batch: Pictures that are checked together.
        window_s: How long a batch waits for further pictures.
        workers: Batches that are checked at a time: while one looks at pixels, another is embedded.
        body_timeout_s: How long a request's head, and then its body, may take to arrive.
        timeout_s: How long an answer may take, from the end of the body on.
        shutdown_s: How long requests under way may take when the server is stopped.
        keep_queries: Directory in which queries and answers are kept; empty: nothing is.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str = ""
    insecure: bool = False
    max_bytes: int = 16 << 20
    max_images: int = 32
    max_form_bytes: int = 64 << 20
    held_bytes: int = 256 << 20
    queue: int = 64
    batch: int = 16
    window_s: float = 0.005
    workers: int = 2
    body_timeout_s: float = 15.0
    timeout_s: float = 30.0
    shutdown_s: float = 30.0
    keep_queries: str = ""

    def __post_init__(self) -> None:
        """Checks the ranges, and that a public address is protected.

        Raises:
            ValueError: Naming the setting and the remedy.
        """
        for name in ("max_bytes", "max_images", "max_form_bytes", "queue", "batch", "workers"):
            self._require(getattr(self, name) >= 1, name, "1 or more")
        self._require(
            self.held_bytes >= max(self.max_bytes, self.max_form_bytes), "held_bytes", "room for a form"
        )
        for name in ("body_timeout_s", "timeout_s", "shutdown_s"):
            self._require(getattr(self, name) > 0, name, "a positive number of seconds")
        self._require(0 <= self.window_s <= 1, "window_s", "0 to 1 second")
        self._require(0 <= self.port <= 65_535, "port", "0 to 65535")
        if self.token and (not self.token.isascii() or not self.token.isprintable() or " " in self.token):
            raise ValueError(
                "the token holds a blank or a character that a header cannot carry; expected ASCII"
            )
        if not (is_loopback(self.host) or self.token or self.insecure):
            raise ValueError(
                f"--host {self.host} can be reached from other machines, and there is no token: anybody could ask "
                "what is in the training set. Give one by --token-file FILE or ONCESEEN_TOKEN, or say --insecure"
            )

    def _require(self, holds: bool, name: str, expected: str) -> None:
        if not holds:
            raise ValueError(
                f"--{name.replace('_s', '').replace('_', '-')} is {getattr(self, name)}; expected {expected}"
            )


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine alone."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
