"""Messages of the likelihood server: reads requests, refuses what is none, writes replies.

The layout of a message is defined in :mod:`halo_mdn.clients.halo_mdn_client`, which has to stand
alone and is therefore the one place where it is written down.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from halo_mdn.clients.halo_mdn_client import (
    AT_FIELD,
    BAD_FRAME,
    BAD_INPUT,
    DESCRIBE,
    EVALUATE,
    HEADER,
    MAGIC,
    SET_FIELD,
    SIMULATE,
    VERSION,
)

# What the payload of each request holds, in this order.
PAYLOADS: dict[int, tuple[str, ...]] = {
    DESCRIBE: (),
    EVALUATE: ("params", "delta"),
    SET_FIELD: ("delta",),
    AT_FIELD: ("params",),
    SIMULATE: ("params", "delta", "seed"),
}


class Refusal(Exception):
    """A request that gets an error reply; the connection goes on if ``goes_on``."""

    def __init__(self, status: int, message: str, *, goes_on: bool = True) -> None:
        super().__init__(message)
        self.status = status
        self.goes_on = goes_on


@dataclass(frozen=True)
class Layout:
    """The sizes that requests and replies have: number of parameters and shape of the grid."""

    num_params: int
    shape: tuple[int, int, int]

    def __str__(self) -> str:
        return f"{self.num_params} parameters and a grid of {self.shape}"

    def num_words(self, operation: int) -> int:
        """Numbers of 8 bytes in the payload of a request."""
        sizes = {"params": self.num_params, "delta": prod(self.shape), "seed": 1}
        return sum(sizes[name] for name in PAYLOADS[operation])


@dataclass(frozen=True)
class Request:
    """A request whose frame is right; its numbers have not been looked at."""

    operation: int
    params: np.ndarray | None = None
    delta: np.ndarray | None = None
    seed: int | None = None


def read_request(
    connection: socket.socket, layout: Layout, *, begin: float, complete: float
) -> Request | None:
    """The next request, or None where the client has hung up.

    Parameters
    ----------
    begin, complete : float
        Seconds until a request must begin, and from then on until it must be complete.

    Raises
    ------
    Refusal
        If the message is not of this protocol, or not for this grid, or late.
    """
    head = memoryview(bytearray(HEADER.size))
    connection.settimeout(begin)
    try:
        received = connection.recv_into(head)
    except TimeoutError:
        raise _broken(f"no request came for {begin:g} s: connect again") from None
    if received == 0:
        return None
    deadline = time.monotonic() + complete
    try:
        received += _receive(connection, head[received:], deadline)
        return _complete(connection, layout, head[:received], deadline)
    except TimeoutError:
        message = f"the message was not complete {complete:g} s after it began: connect again"
        raise _broken(message) from None


def _complete(
    connection: socket.socket, layout: Layout, head: memoryview, deadline: float
) -> Request:
    """The request whose header has come."""
    received = len(head)
    if received < HEADER.size:
        raise _broken(f"the message ended after {received} of {HEADER.size} bytes of its header")
    magic, version, operation, num_params, *shape, size = HEADER.unpack(head)
    if magic != MAGIC:
        raise _broken(f"a message starts with {MAGIC!r}, this one with {magic!r}")
    if version != VERSION:
        raise _broken(f"this server speaks version {VERSION} of the protocol, got {version}")
    problem = _problem(operation, Layout(num_params, (shape[0], shape[1], shape[2])), size, layout)
    if problem:
        limit = 8 * layout.num_words(SIMULATE)
        if size <= limit:
            _receive(connection, memoryview(bytearray(size)), deadline)
        raise Refusal(BAD_INPUT, problem, goes_on=size <= limit)
    words = np.empty(layout.num_words(operation), dtype="<f8")
    received = _receive(connection, words.data.cast("B"), deadline)
    if received < size:
        raise _broken(f"the message ended after {received} of {size} bytes of its payload")
    return _request(operation, words, layout)


def send_reply(
    connection: socket.socket, status: int, layout: Layout, parts: Sequence[np.ndarray | bytes]
) -> None:
    """Send a reply: its header, then the parts of its payload."""
    payload = b"".join(part if isinstance(part, bytes) else part.tobytes() for part in parts)
    size = len(payload)
    header = HEADER.pack(MAGIC, VERSION, status, layout.num_params, *layout.shape, size)
    connection.sendall(header)
    connection.sendall(payload)


def _problem(operation: int, got: Layout, size: int, layout: Layout) -> str | None:
    if operation not in PAYLOADS:
        return f"there is no operation {operation}, only {min(PAYLOADS)} to {max(PAYLOADS)}"
    if operation != DESCRIBE and got != layout:
        return f"the request is for {got}, this server has {layout}"
    expected = 8 * layout.num_words(operation)
    if size != expected:
        names = ", ".join(PAYLOADS[operation]) or "nothing"
        return f"the payload has {size} bytes, expected {expected}: {names} in float64"
    return None


def _request(operation: int, words: np.ndarray, layout: Layout) -> Request:
    params = delta = seed = None
    if "params" in PAYLOADS[operation]:
        params, words = np.split(words, [layout.num_params])
    if "delta" in PAYLOADS[operation]:
        delta, words = np.split(words, [prod(layout.shape)])
        delta = delta.reshape(layout.shape)
    if "seed" in PAYLOADS[operation]:
        seed = int(words.view("<u8")[0])
    return Request(operation, params, delta, seed)


def _receive(connection: socket.socket, view: memoryview, deadline: float) -> int:
    """Fill the view; returns the bytes received, fewer where the client hung up.

    Raises
    ------
    TimeoutError
        At the deadline, by ``time.monotonic()``.
    """
    total = 0
    while total < len(view):
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connection.settimeout(left)
        received = connection.recv_into(view[total:])
        if not received:
            break
        total += received
    return total


def _broken(message: str) -> Refusal:
    return Refusal(BAD_FRAME, message, goes_on=False)
