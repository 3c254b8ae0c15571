"""A Unix socket that answers with ln L and its gradients until it is told to stop."""

from __future__ import annotations

import errno
import logging
import os
import socket
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock, Thread

import numpy as np

from halo_mdn.bias.base import Bias
from halo_mdn.clients.halo_mdn_client import AT_FIELD, BUSY, EVALUATE, FAILED, OK, SET_FIELD
from halo_mdn.errors import InputError
from halo_mdn.halos.catalogue import HaloCatalogue
from halo_mdn.server.protocol import Refusal, Request, read_request, send_reply
from halo_mdn.server.session import Session

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.2  # how soon a request to stop is seen
_GRACE_SECONDS = 10.0  # for requests in progress when the server stops
FRAME_SECONDS = 60.0
IDLE_SECONDS = 3600.0
_LONGEST_PATH = 107  # bytes of the name of a Unix socket


class LikelihoodServer:
    """Serves one catalogue's likelihood to several clients, each in a thread of its own.

    Parameters
    ----------
    bias : Bias
    halos : HaloCatalogue
    max_clients : int
        Further clients are refused; each may hold a few arrays of the size of the field.
    frame_seconds : float
        A client is given up that takes longer to send its first request, or the rest of any
        request that it began, or to take its reply.
    idle_seconds : float
        The same for the time between a reply and the next request: samplers compute.
    """

    def __init__(
        self,
        bias: Bias,
        halos: HaloCatalogue,
        *,
        max_clients: int = 16,
        frame_seconds: float = FRAME_SECONDS,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self._frame_seconds, self._idle_seconds = frame_seconds, idle_seconds
        self._bias, self._halos, self._max_clients = bias, halos, max_clients
        self._clients: dict[socket.socket, Thread] = {}
        self._changing = Lock()

    def warm_up(self) -> float:
        """Compile what requests need, so that the first is fast; returns the seconds it took."""
        start = time.monotonic()
        session = self._session()
        params, delta = np.zeros(self._bias.num_params), np.zeros(self._halos.grid.shape)
        session.answer(Request(EVALUATE, params, delta))
        session.answer(Request(SET_FIELD, delta=delta))
        session.answer(Request(AT_FIELD, params))
        return time.monotonic() - start

    def serve(self, listener: socket.socket, stop: Callable[[], bool]) -> None:
        """Accept clients until ``stop()`` is true, then let requests in progress finish.

        Parameters
        ----------
        listener : socket
            From :func:`listening`.
        stop : callable
            Asked several times per second.
        """
        listener.settimeout(_POLL_SECONDS)
        while not stop():
            with suppress(TimeoutError):
                self._welcome(listener.accept()[0])
        self._dismiss_all()

    def _welcome(self, connection: socket.socket) -> None:
        connection.settimeout(self._frame_seconds)
        with self._changing:
            full = len(self._clients) >= self._max_clients
            if not full:
                thread = Thread(target=self._attend, args=(connection,), daemon=True)
                self._clients[connection] = thread
        if full:
            with connection, suppress(OSError):
                message = f"the server has {self._max_clients} clients already: try again later"
                send_reply(connection, BUSY, self._session().layout, [message.encode()])
        else:
            thread.start()

    def _attend(self, connection: socket.socket) -> None:
        """Answer one client until it hangs up or sends what is no message."""
        try:
            session = self._session()
            begin = self._frame_seconds
            while self._answer_next(connection, session, begin):
                begin = self._idle_seconds
        except OSError as error:
            logger.info("a client went away: %s", error)
        finally:
            with self._changing:
                self._clients.pop(connection, None)
            connection.close()

    def _answer_next(self, connection: socket.socket, session: Session, begin: float) -> bool:
        try:
            request = read_request(
                connection, session.layout, begin=begin, complete=self._frame_seconds
            )
            if request is None:
                return False
            status, parts, goes_on = OK, session.answer(request), True
        except Refusal as refusal:
            # Samplers try parameters that are too far out, and know what to do about it.
            level = logging.INFO if refusal.status == FAILED else logging.WARNING
            logger.log(level, "refused a request: %s", refusal)
            status, parts, goes_on = refusal.status, [str(refusal).encode()], refusal.goes_on
        connection.settimeout(self._frame_seconds)
        send_reply(connection, status, session.layout, parts)
        return goes_on

    def _dismiss_all(self) -> None:
        with self._changing:
            clients = dict(self._clients)
        for connection in clients:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RD)  # reads end; a reply may still be written
        deadline = time.monotonic() + _GRACE_SECONDS
        for thread in clients.values():
            thread.join(max(0.0, deadline - time.monotonic()))

    def _session(self) -> Session:
        return Session(self._bias, self._halos)


@contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """A listening socket that only its owner may use; its file is removed at the end.

    A socket file that a dead server left behind is replaced.

    Raises
    ------
    InputError
        If a server listens there already, the path holds something else, is too long, or cannot
        be written.
    """
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise InputError(f"the socket path {path} is longer than {_LONGEST_PATH} bytes")
    _remove_stale(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        mask = os.umask(0o177)  # so that the file is never open to others, not even for a moment
        try:
            listener.bind(str(path))
        except OSError as error:
            raise InputError(f"cannot make the socket {path}: {error.strerror}") from None
        finally:
            os.umask(mask)
        made = path.stat().st_ino
        try:
            listener.listen()
            yield listener
        finally:
            with suppress(FileNotFoundError):
                if path.stat().st_ino == made:  # not that of a server which took our place
                    path.unlink()


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except OSError:
        return  # nothing there, or bind says what is wrong
    if not stat.S_ISSOCK(mode):
        raise InputError(f"{path} exists and is not a socket: give another --socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        error = probe.connect_ex(str(path))
    if error != errno.ECONNREFUSED:
        raise InputError(f"a server listens on {path} already: stop it, or give another --socket")
    logger.warning("removing the socket %s, left behind by a server that is gone", path)
    path.unlink()
