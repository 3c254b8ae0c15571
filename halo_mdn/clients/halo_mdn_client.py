"""Client of the likelihood server: ln L of a halo catalogue and its gradients, from outside.

This file stands alone: it needs Python 3.8 or newer and NumPy, nothing else. Copy it beside your
sampler, or put its folder on ``PYTHONPATH``.

    from halo_mdn_client import Likelihood

    with Likelihood("run.sock") as log_l:
        value, delta_cot, params_cot = log_l.evaluate(params, delta)

A message is a header of 32 bytes and a payload, all little-endian:

    offset  type      request                  reply
    0       4 bytes   "HMDN"                   "HMDN"
    4       uint16    protocol version, 1      protocol version, 1
    6       uint16    operation                status, 0 for success
    8       uint32    number of parameters P   P
    12      3 uint32  grid N0, N1, N2          N0, N1, N2
    24      uint64    bytes of the payload     bytes of the payload

Arrays are float64 in C order. A reply with another status carries a sentence in UTF-8.
"""

from __future__ import annotations

import json
import socket
import struct
from typing import Any, NamedTuple

import numpy as np

MAGIC = b"HMDN"
VERSION = 1
HEADER = struct.Struct("<4sHHIIIIQ")

DESCRIBE = 1  # no payload -> JSON text
EVALUATE = 2  # params, delta -> ln L, d ln L / d params, d ln L / d delta
SET_FIELD = 3  # delta -> nothing: this connection remembers the field
AT_FIELD = 4  # params -> ln L, d ln L / d params, at the field remembered
SIMULATE = 5  # params, delta, seed -> halos (x, y, z, M); this connection uses them from then on

OK = 0
BAD_FRAME = 1  # not this protocol: the server closes the connection
BAD_INPUT = 2  # wrong shape or unusable values: the connection goes on
FAILED = 3  # the server could not compute it: the connection goes on
BUSY = 4  # too many clients: the server closes the connection


class ServerError(RuntimeError):
    """The server refused a request; ``status`` is its code and the message its sentence."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Evaluation(NamedTuple):
    """ln L, d ln L / d delta with shape (N0, N1, N2), d ln L / d params with shape (P,)."""

    value: float
    delta_cot: np.ndarray
    params_cot: np.ndarray


class ParamsEvaluation(NamedTuple):
    """ln L and d ln L / d params, shape (P,)."""

    value: float
    params_cot: np.ndarray


class Likelihood:
    """A connection to a likelihood server. Use one per thread.

    Parameters
    ----------
    path : str
        The server's socket.
    timeout : float or None
        Seconds to wait for the server, also while it starts to compute; None waits for ever.

    Attributes
    ----------
    num_params : int
    shape : tuple of 3 int
        Voxels of the grid, (N0, N1, N2).
    info : dict
        What the server says of itself: box_size in Mpc/h, mass_threshold in Msun/h, prior_mean,
        prior_scale, boundary, density_floor, num_halos, precision and more.

    Raises
    ------
    OSError
        If nobody listens on the socket, or the server goes away.
    ServerError
        If the server refuses a request; the connection stays usable unless the request was no
        message of this protocol.
    """

    def __init__(self, path: str, timeout: float | None = 600.0) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        self.num_params = 0
        self.shape = (0, 0, 0)
        try:
            self._socket.connect(str(path))
            header, payload = self._exchange(DESCRIBE)
        except BaseException:
            self.close()
            raise
        self.num_params = header[0]
        self.shape = (header[1], header[2], header[3])
        self.info: dict[str, Any] = json.loads(payload.decode("utf-8"))

    def evaluate(self, params: Any, delta: Any) -> Evaluation:
        """ln L and both gradients.

        Parameters
        ----------
        params : array (P,)
        delta : array (N0, N1, N2)
            Overdensity; value (i, j, k) belongs to the centre of voxel (i, j, k).
        """
        floats = self._ask(EVALUATE, self._params(params), self._delta(delta))
        return Evaluation(
            value=float(floats[0]),
            delta_cot=floats[1 + self.num_params :].reshape(self.shape),
            params_cot=floats[1 : 1 + self.num_params],
        )

    def set_field(self, delta: Any) -> None:
        """Send the field that :meth:`at_field` uses."""
        self._exchange(SET_FIELD, self._delta(delta))

    def at_field(self, params: Any) -> ParamsEvaluation:
        """ln L and its parameter gradient at the field of :meth:`set_field`: no field is sent."""
        floats = self._ask(AT_FIELD, self._params(params))
        return ParamsEvaluation(float(floats[0]), floats[1:])

    def simulate(self, params: Any, delta: Any, seed: int) -> np.ndarray:
        """Draw a mock catalogue, which replaces the data of this connection (and of no other).

        Returns
        -------
        array (H, 4)
            Position in Mpc/h and mass in Msun/h.
        """
        word = np.array([seed], dtype="<u8")
        halos = self._ask(SIMULATE, self._params(params), self._delta(delta), word)
        return halos.reshape(-1, 4)

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def __enter__(self) -> Likelihood:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def _params(self, params: Any) -> np.ndarray:
        return _as_floats("params", params, (self.num_params,))

    def _delta(self, delta: Any) -> np.ndarray:
        return _as_floats("delta", delta, self.shape)

    def _ask(self, operation: int, *arrays: np.ndarray) -> np.ndarray:
        return np.frombuffer(self._exchange(operation, *arrays)[1], dtype="<f8")

    def _exchange(self, operation: int, *arrays: np.ndarray) -> tuple[list[int], bytearray]:
        """Send one request; returns (P, N0, N1, N2) and the payload of the reply."""
        try:
            status, sizes, payload = self._converse(operation, arrays)
        except OSError:
            self.close()  # half a message may be on its way: nothing sensible can follow it
            raise
        if status != OK:
            raise ServerError(status, payload.decode("utf-8", "replace"))
        return sizes, payload

    def _converse(
        self, operation: int, arrays: tuple[np.ndarray, ...]
    ) -> tuple[int, list[int], bytearray]:
        size = sum(array.nbytes for array in arrays)
        header = HEADER.pack(MAGIC, VERSION, operation, self.num_params, *self.shape, size)
        try:
            self._socket.sendall(header)
            for array in arrays:
                self._socket.sendall(array.data.cast("B"))
        except (BrokenPipeError, ConnectionResetError):
            pass  # a server that refuses says why before it hangs up
        magic, version, status, *sizes, size = HEADER.unpack(self._receive(HEADER.size))
        if magic != MAGIC or version != VERSION:
            raise ConnectionError(
                f"the server answered with {magic!r} version {version}, expected {MAGIC!r} version "
                f"{VERSION}: is this the socket of a halo_mdn server of the same version?"
            )
        return status, sizes, self._receive(size)

    def _receive(self, size: int) -> bytearray:
        payload = bytearray(size)
        view = memoryview(payload)
        while len(view):
            received = self._socket.recv_into(view)
            if not received:
                raise ConnectionError("the likelihood server closed the connection")
            view = view[received:]
        return payload


def _as_floats(name: str, values: Any, shape: tuple[int, ...]) -> np.ndarray:
    array = np.ascontiguousarray(values, dtype="<f8")
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}, expected {shape}")
    return array
