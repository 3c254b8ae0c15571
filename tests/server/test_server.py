"""The likelihood server: right numbers, several clients, bad messages, a clean end."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
import numpy as np
import pytest

import halo_mdn as hm
from halo_mdn import launch
from halo_mdn.clients.halo_mdn_client import (
    AT_FIELD,
    BAD_FRAME,
    BAD_INPUT,
    BUSY,
    DESCRIBE,
    EVALUATE,
    HEADER,
    MAGIC,
    VERSION,
    Likelihood,
    ServerError,
)
from halo_mdn.likelihood.adjoint import _adjoint
from halo_mdn.server import LikelihoodServer
from halo_mdn.server.server import listening
from halo_mdn.server.session import _value_and_gradient, padded_length

SHAPE = (8, 9, 10)
NUM_BYTES = 8 * (17 + 720)
ROOT = Path(__file__).parents[2]


@pytest.fixture
def grid() -> hm.Grid:
    return hm.Grid(SHAPE, (32.0, 36.0, 40.0))


@contextmanager
def running(server: LikelihoodServer, path: Path) -> Iterator[None]:
    stopped = threading.Event()
    with listening(path) as listener:
        thread = threading.Thread(target=server.serve, args=(listener, stopped.is_set))
        thread.start()
        try:
            yield
        finally:
            stopped.set()
            thread.join()


@pytest.fixture
def served(bias, halos, tmp_path: Path) -> Iterator[str]:
    with running(LikelihoodServer(bias, halos, max_clients=4), tmp_path / "a.sock"):
        yield str(tmp_path / "a.sock")


def raw(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(30)
    connection.connect(path)
    return connection


def reply_to(connection: socket.socket, message: bytes) -> tuple[int, str]:
    if message:
        connection.sendall(message)
    head = connection.recv(HEADER.size, socket.MSG_WAITALL)
    *_, size = fields = HEADER.unpack(head)
    return fields[2], connection.recv(size, socket.MSG_WAITALL).decode(errors="replace")


def still_right(path: str, bias, params, delta, halos) -> None:
    with Likelihood(path) as log_l:
        value = log_l.evaluate(params, delta).value
    assert value == pytest.approx(float(hm.log_likelihood(bias, params, delta, halos)), rel=1e-12)


def test_the_reply_is_the_adjoint(served: str, bias, params, delta, halos) -> None:
    expected = hm.adjoint(bias, params, delta, halos)
    with Likelihood(served) as log_l:
        assert (log_l.num_params, log_l.shape) == (17, SHAPE)
        assert log_l.info["box_size"] == [32.0, 36.0, 40.0]
        assert log_l.info["num_halos"] == halos.num_halos
        got = log_l.evaluate(params, delta)
    # The numbers travel as they are, so they are the same to the last bit.
    assert got.value == float(expected.value)
    np.testing.assert_array_equal(got.delta_cot, expected.delta_cot)
    np.testing.assert_array_equal(got.params_cot, expected.params_cot)
    assert got.delta_cot.shape == SHAPE and got.delta_cot.dtype == np.float64


def test_arrays_of_any_layout_are_understood(served: str, params, delta) -> None:
    with Likelihood(served) as log_l:
        expected = log_l.evaluate(params, delta)
        fortran = log_l.evaluate(list(np.asarray(params)), np.asfortranarray(delta))
    assert fortran.value == expected.value
    np.testing.assert_array_equal(fortran.delta_cot, expected.delta_cot)


def test_a_remembered_field_gives_the_same(served: str, params, delta) -> None:
    with Likelihood(served) as log_l:
        with pytest.raises(ServerError, match="no field yet"):
            log_l.at_field(params)
        log_l.set_field(delta)
        got, expected = log_l.at_field(params), log_l.evaluate(params, delta)
    assert got.value == pytest.approx(expected.value, rel=1e-12)
    # Summed in another order: the gradient agrees to rounding.
    np.testing.assert_allclose(got.params_cot, expected.params_cot, rtol=1e-9, atol=1e-9)


def test_a_mock_replaces_the_data_of_its_own_connection(
    served: str, bias, params, delta, grid, halos
) -> None:
    with Likelihood(served) as log_l, Likelihood(served) as other:
        mock = log_l.simulate(params, delta, seed=5)
        value = log_l.evaluate(params, delta).value
        assert other.evaluate(params, delta).value == pytest.approx(
            float(hm.log_likelihood(bias, params, delta, halos)), rel=1e-12
        )
        with pytest.raises(ServerError, match="seed"):
            log_l.simulate(params, delta, seed=2**40)
    expected = hm.simulate(jax.random.key(5), bias, params, delta, grid)
    np.testing.assert_allclose(mock[:, 3], expected.mass, rtol=1e-13)
    again = hm.HaloCatalogue.from_positions(mock[:, :3], mock[:, 3], grid)
    assert value == pytest.approx(float(hm.log_likelihood(bias, params, delta, again)), rel=1e-12)


def test_mocks_of_any_number_of_halos_share_what_is_compiled(
    served: str, bias, params, delta, halos
) -> None:
    """At a field and at the remembered one; every catalogue gives its own ln L."""
    seen, sizes = set(), set()
    with Likelihood(served) as log_l:
        for seed in range(4):
            mock = log_l.simulate(params, delta, seed=seed)
            log_l.set_field(delta)
            value, at_field = log_l.evaluate(params, delta).value, log_l.at_field(params).value
            seen.add((_adjoint._cache_size(), _value_and_gradient._cache_size()))
            sizes.add(len(mock))
            again = hm.HaloCatalogue.from_positions(mock[:, :3], mock[:, 3], halos.grid)
            wanted = float(hm.log_likelihood(bias, params, delta, again))
            assert value == pytest.approx(wanted, rel=1e-12)
            assert at_field == pytest.approx(wanted, rel=1e-12)
    assert len(sizes) == 4 and len(seen) == 1


def test_lengths_that_mocks_are_padded_to() -> None:
    lengths = [padded_length(number) for number in (0, 1, 4096, 4097, 8192, 38747, 1_000_000)]
    assert lengths == [4096, 4096, 4096, 8192, 8192, 65536, 1048576]


def test_clients_that_say_nothing_lose_their_place(bias, halos, tmp_path: Path) -> None:
    """At once where a message was begun or none was ever sent; later between two requests."""
    path = tmp_path / "a.sock"
    server = LikelihoodServer(bias, halos, max_clients=2, frame_seconds=0.5, idle_seconds=4)
    half = frame()[:20]
    with running(server, path), Likelihood(str(path)) as idle:
        for message in (b"", half, frame(), frame() + bytes(100)):
            with raw(str(path)) as silent:
                started = time.monotonic()
                status, complaint = reply_to(silent, message)
                assert status == BAD_FRAME and silent.recv(1) == b""
                assert time.monotonic() - started < 3
            wanted = "was not complete 0.5 s after it began" if message else "came for 0.5 s"
            assert wanted in complaint and "connect again" in complaint
        idle._exchange(DESCRIBE)  # it may be silent for longer
        time.sleep(4.5)
        with pytest.raises(ServerError, match="no request came for 4 s"):
            idle._exchange(DESCRIBE)


def test_a_message_in_pieces_has_one_deadline(bias, halos, tmp_path: Path) -> None:
    server = LikelihoodServer(bias, halos, frame_seconds=0.5)
    with running(server, tmp_path / "a.sock"), raw(str(tmp_path / "a.sock")) as slow:
        started = time.monotonic()
        with pytest.raises(OSError):
            for byte in frame():
                slow.sendall(bytes([byte]))
                time.sleep(0.1)
        assert 0.4 < time.monotonic() - started < 2.5


def test_several_clients_at_once(served: str, bias, params, delta, halos) -> None:
    shifts = [0.0, 0.01, 0.02, 0.03]
    got: dict[float, list[float]] = {}

    def ask(shift: float) -> None:
        with Likelihood(served) as log_l:
            got[shift] = [log_l.evaluate(params + shift, delta).value for _ in range(5)]

    threads = [threading.Thread(target=ask, args=(shift,)) for shift in shifts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for shift in shifts:
        expected = float(hm.log_likelihood(bias, params + shift, delta, halos))
        assert got[shift] == pytest.approx([expected] * 5, rel=1e-12)


def test_too_many_clients_are_told_so(served: str, bias, params, delta, halos) -> None:
    clients = [Likelihood(served) for _ in range(4)]
    with pytest.raises(ServerError, match="4 clients already") as caught:
        Likelihood(served)
    assert caught.value.status == BUSY
    for client in clients:
        client.close()
    time.sleep(0.5)  # the threads of the clients that left end
    still_right(served, bias, params, delta, halos)


def frame(operation: int = EVALUATE, *, size: int = NUM_BYTES, **changed) -> bytes:
    fields = {"magic": MAGIC, "version": VERSION, "num_params": 17, "shape": SHAPE} | changed
    return HEADER.pack(
        fields["magic"], fields["version"], operation, fields["num_params"], *fields["shape"], size
    )


BAD_FRAMES = {
    "starts with": frame(magic=b"HTTP"),
    "version 1 of the protocol, got 7": frame(version=7),
    "expected 5896": frame(size=2**60),
}
BAD_REQUESTS = {
    "no operation 99": frame(99) + bytes(NUM_BYTES),
    "this server has 17 parameters": frame(shape=(8, 9, 9)) + bytes(NUM_BYTES),
    "18 parameters": frame(num_params=18) + bytes(NUM_BYTES),
    "expected 136": frame(AT_FIELD, size=144) + bytes(144),
    "16 bytes, expected 5896": frame(size=16) + bytes(16),
}


@pytest.mark.parametrize("complaint", BAD_FRAMES)
def test_a_message_that_is_none_is_refused(
    served: str, complaint: str, bias, params, delta, halos
) -> None:
    with raw(served) as connection:
        status, message = reply_to(connection, BAD_FRAMES[complaint])
        assert complaint in message
        assert status == (BAD_INPUT if "expected" in complaint else BAD_FRAME)
        assert connection.recv(1) == b"", "the connection should have been closed"
    still_right(served, bias, params, delta, halos)


@pytest.mark.parametrize("complaint", BAD_REQUESTS)
def test_a_wrong_request_is_refused_and_the_connection_goes_on(
    served: str, complaint: str, params, delta
) -> None:
    with raw(served) as connection:
        status, message = reply_to(connection, BAD_REQUESTS[complaint])
        assert status == BAD_INPUT and complaint in message
        good = frame() + np.asarray(params).tobytes() + delta.tobytes()
        assert reply_to(connection, good)[0] == 0


@pytest.mark.parametrize("length", [3, HEADER.size, HEADER.size + 100])
def test_a_truncated_message_is_refused(
    served: str, length: int, bias, params, delta, halos
) -> None:
    with raw(served) as connection:
        connection.sendall((frame() + bytes(NUM_BYTES))[:length])
        connection.shutdown(socket.SHUT_WR)
        status, message = reply_to(connection, b"")
        assert status == BAD_FRAME and "the message ended after" in message
    with raw(served) as connection:
        connection.sendall(frame())  # and gone, in the middle of a message
    still_right(served, bias, params, delta, halos)


def test_unusable_values_are_refused(served: str, bias, params, delta, halos) -> None:
    empty, holed = delta.copy(), delta.copy()
    empty[1, 2, 3], holed[0, 0, 0] = -1.0, np.nan
    cases = {
        "delta <= -1": (params, empty),
        "1 of 720 density cells are NaN": (params, holed),
        "1 of 17 parameters are not finite": (params.at[3].set(np.inf), delta),
    }
    with Likelihood(served) as log_l:
        for complaint, (at, field) in cases.items():
            with pytest.raises(ServerError, match=complaint) as caught:
                log_l.evaluate(at, field)
            assert caught.value.status == BAD_INPUT
        with pytest.raises(ValueError, match="delta has shape"):
            log_l.evaluate(params, delta[1:])
        assert np.isfinite(log_l.evaluate(params, delta).value)
        # A number of halos that no float64 holds has ln L = -inf, by the model's own rule.
        assert log_l.evaluate(params.at[15].set(60.0), delta).value == -np.inf


def test_the_socket_is_private_and_goes_away(bias, halos, params, tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with running(LikelihoodServer(bias, halos), path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        idle = Likelihood(str(path))  # does not keep the server from stopping
        with pytest.raises(hm.InputError, match="listens on .* already"), listening(path):
            pass
    assert not path.exists()
    with pytest.raises(OSError):
        idle.at_field(params)


def test_a_stale_socket_is_replaced_and_anything_else_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(path))
    with listening(path):
        assert path.is_socket()
    path.write_text("precious")
    with pytest.raises(hm.InputError, match="is not a socket"), listening(path):
        pass
    assert path.read_text() == "precious"
    for wrong in (tmp_path / "none" / "a.sock", tmp_path / ("a" * 120)):
        with pytest.raises(hm.InputError, match=r"cannot make|longer than"), listening(wrong):
            pass


def test_a_server_that_was_replaced_leaves_the_new_socket_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with listening(path):
        path.rename(tmp_path / "old.sock")
        with listening(path):
            pass
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
            other.bind(str(path))
    assert path.exists()


@pytest.fixture
def run_file(halos, delta, tmp_path: Path) -> Path:
    np.savez(tmp_path / "field.npz", delta=delta)
    np.savez(tmp_path / "halos.npz", position=halos.position, mass=halos.mass)
    file = tmp_path / "run.toml"
    file.write_text(
        '[data]\nfield = "field.npz"\ncatalogue = "halos.npz"\nbox_size = [32, 36, 40]\n'
        '[runtime]\ncompile_cache = "none"\nplatform = "cpu"\n'
    )
    return file


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_the_command_serves_until_a_signal(
    run_file: Path, bias, params, delta, halos, number: signal.Signals
) -> None:
    command = [sys.executable, "run_inference.py", "serve", str(run_file), "--socket"]
    path = run_file.parent / "b.sock"
    process = subprocess.Popen([*command, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        while not path.exists() and process.poll() is None:
            time.sleep(0.05)
        still_right(str(path), bias, params, delta, halos)
        process.send_signal(number)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    assert "serving on" in output and output.endswith("stopped\n")
    assert not os.path.exists(path)


def test_the_command_refuses_in_one_sentence(run_file: Path) -> None:
    command = [sys.executable, "run_inference.py", "serve", str(run_file), "--socket"]
    taken = run_file.parent / "run.toml"
    result = subprocess.run(
        [*command, str(taken)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1


@pytest.mark.parametrize("flag", ["--idle_timeout", "--frame_timeout"])
@pytest.mark.parametrize("value", ["0", "-1", "nan", "1e12"])
def test_times_must_be_times(capsys, flag: str, value: str) -> None:
    assert launch.main(["serve", "quickstart", "--socket", "a.sock", flag, value]) == 2
    error = capsys.readouterr().err
    assert f"{flag} is {float(value):g}, expected seconds above 0" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("version", ["3.8", "3.10"])
def test_the_client_needs_only_an_old_python_and_numpy(version: str) -> None:
    """No Python that old runs these tests, so the grammar is checked, and what is imported."""
    import ast

    major, minor = map(int, version.split("."))
    for file in (ROOT / "halo_mdn" / "clients").glob("halo_mdn_*.py"):
        tree = ast.parse(file.read_text(), feature_version=(major, minor))
        imported = {
            name.partition(".")[0]
            for node in ast.walk(tree)
            for name in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        }
        allowed = {"numpy", "aquila_borg", "halo_mdn_client", *sys.stdlib_module_names}
        assert imported <= allowed


def block(language: str) -> str:
    text = (ROOT / "docs" / "server.md").read_text()
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)[0]


@pytest.fixture
def documented(bias, halos, tmp_path: Path) -> Iterator[Path]:
    with running(LikelihoodServer(bias, halos), tmp_path / "run.sock"):
        yield tmp_path


def test_the_documented_python_client_runs(documented: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "halo_mdn" / "clients")}
    script = block("python") + "assert len(mock) and 'jax' not in __import__('sys').modules"
    command = [sys.executable, "-c", script]
    subprocess.run(command, cwd=documented, env=environment, check=True)


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_the_documented_cpp_client_gives_the_same(documented: Path, bias, halos) -> None:
    (documented / "client.cpp").write_text(block("cpp"))
    build = ["g++", "-std=c++17", "-Wall", "-Wextra", "-Werror", "client.cpp", "-o", "client"]
    subprocess.run(build, cwd=documented, check=True)
    run = subprocess.run(["./client"], cwd=documented, capture_output=True, text=True, check=True)
    value, first, size = run.stdout.split()
    expected = hm.adjoint(bias, np.full(17, -0.5), np.zeros(SHAPE), halos)
    assert float(value) == float(expected.value)
    assert float(first) == float(expected.params_cot[0])
    assert int(size) == 1 + 17 + 720
