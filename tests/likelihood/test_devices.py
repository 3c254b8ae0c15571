"""The likelihood on several devices against one, and what is sent where."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

import halo_mdn as hm
from halo_mdn.likelihood.devices.likelihood import sharded_adjoint, sharded_likelihood
from halo_mdn.likelihood.devices.slabs import shard_catalogue, shard_field, slab_mesh

TESTS = Path(__file__).parent
ROUNDING = 1e-12  # sums of a few hundred terms in another order; measured: below 1e-15
DEVICES = jax.local_device_count()  # conftest.py asks for two


def start(*cases: str, devices: int = 4, **settings: int) -> subprocess.Popen:
    """The cases of sharded_cases.py in a process of their own, with so many devices."""
    setting = json.dumps({"processes": 1, "index": 0, "port": 0, **settings})
    flags = f"--xla_force_host_platform_device_count={devices}"
    quick = "--xla_backend_optimization_level=0"  # compiles faster
    return subprocess.Popen(
        [sys.executable, TESTS / "sharded_cases.py", setting, *cases],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": str(TESTS.parent),
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": f"{flags} {quick}",
        },
    )


def results(*processes: subprocess.Popen) -> list[dict[str, dict[str, float]]]:
    """What the processes print last; all end with the first that is late."""
    try:
        answers = [process.communicate(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, errors) in zip(processes, answers, strict=True):
        assert process.returncode == 0, errors
    return [json.loads(output.splitlines()[-1]) for output, _ in answers]


def check(outcome: dict[str, dict[str, float]], cases: tuple[str, ...], tolerance: float) -> None:
    assert tuple(outcome) == cases
    wrong = {
        f"{case}: {name}": value
        for case, differences in outcome.items()
        for name, value in differences.items()
        if not value < tolerance
    }
    assert not wrong


def test_devices_agree_with_one() -> None:
    cases = ("periodic", "interior", "network", "long_kernel", "fixed")
    (outcome,) = results(start(*cases))
    check(outcome, cases, ROUNDING)


@pytest.mark.slow
def test_curvature_and_chains() -> None:
    (outcome,) = results(start("curvature"))
    check(outcome, ("curvature",), 1e-6)  # differences over 2e-4


def test_two_processes_agree_with_one_device() -> None:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    cases = ("across_processes", "bad_field")
    both = [start(*cases, devices=2, processes=2, index=i, port=port) for i in range(2)]
    for outcome in results(*both):
        check(outcome, cases, ROUNDING)


@pytest.mark.parametrize("catalogues", [1, 3])
def test_halos_lie_on_the_device_of_their_voxel(catalogues: int) -> None:
    mesh, rng = slab_mesh(), np.random.default_rng(0)
    shape = (3 * DEVICES, 4, 5)
    size = (catalogues, 50) if catalogues > 1 else (50,)
    voxel = rng.integers(0, shape, (*size, 3))
    voxel[..., :40, 0] = 1  # crowded: the devices hold different numbers of halos
    halos = hm.HaloCatalogue.from_voxels(
        voxel,
        30 + rng.random(size),
        hm.Grid(shape, (12.0, 4.0, 5.0)),
        selected=rng.random(size) < 0.8,
    )
    sharded = shard_catalogue(halos, mesh)
    found = [[] for _ in range(catalogues)]
    for d, device, mass, local, used in zip(
        range(DEVICES),
        mesh.devices,
        *(a.addressable_shards for a in (sharded.log_mass, sharded.voxel, sharded.selected)),
        strict=True,
    ):
        assert device == mass.device == local.device
        moved = np.array(local.data) + [3 * d, 0, 0]
        assert np.all((np.array(local.data) >= 0) & (np.array(local.data) < [3, 4, 5]))
        rows = (
            np.atleast_2d(mass.data),
            moved.reshape(catalogues, -1, 3),
            np.atleast_2d(used.data),
        )
        for c, (m, v, kept) in enumerate(zip(*rows, strict=True)):
            found[c] += [(float(a), *map(int, b)) for a, b in zip(m[kept], v[kept], strict=True)]
    for c, row in enumerate(found):
        m, v, kept = (
            np.reshape(a, (catalogues, *a.shape[a.ndim - n :]))[c]
            for a, n in ((halos.log_mass, 1), (halos.voxel, 2), (halos.selected, 1))
        )
        expected = [(float(a), *map(int, b)) for a, b in zip(m[kept], v[kept], strict=True)]
        assert sorted(row) == sorted(expected)


def test_a_file_is_read_slab_by_slab(tmp_path: Path) -> None:
    field = np.random.default_rng(1).normal(size=(2 * DEVICES, 3, 4)).astype(np.float32)
    np.save(tmp_path / "delta.npy", field)
    sharded = shard_field(np.load(tmp_path / "delta.npy", mmap_mode="r"), slab_mesh())
    assert sharded.dtype == np.float32
    assert {shard.data.shape for shard in sharded.addressable_shards} == {(2, 3, 4)}
    np.testing.assert_array_equal(np.asarray(sharded), field)


@pytest.mark.skipif(DEVICES < 2, reason="needs two devices")
def test_bad_input() -> None:
    devices = jax.devices()
    two = Mesh(np.array(devices[:2]), ("any",))
    halos = hm.HaloCatalogue.from_voxels([[0, 0, 0]], [30.0], hm.Grid((8, 8, 8), (8.0,) * 3))
    odd = hm.HaloCatalogue.from_voxels([[0, 0, 0]], [30.0], hm.Grid((9, 8, 8), (9.0, 8.0, 8.0)))
    with pytest.raises(hm.InputError, match="9 planes along x and the mesh 2 devices.*use 1"):
        shard_catalogue(odd, two)
    with pytest.raises(hm.InputError, match="9 planes"):
        shard_field(np.zeros((9, 8, 8)), two)
    with pytest.raises(hm.InputError, match="three axes"):
        shard_field(np.zeros((8, 8)), two)
    with pytest.raises(hm.InputError, match=r"axes \{'a': 1, 'b': 1\}, expected one axis"):
        shard_catalogue(halos, Mesh(np.array(devices[:1])[None], ("a", "b")))
    bias, sharded = hm.NeuralBias(), shard_catalogue(halos, two)
    params = np.zeros(bias.num_params)
    with pytest.raises(hm.InputError, match="kernel is 5 voxels long .* holds 4 planes"):
        sharded_likelihood(hm.NeuralBias(kernel_size=5), np.zeros((8, 8, 8)), sharded)
    with pytest.raises(hm.InputError, match=r"shape \(4, 8, 8\), expected the grid's"):
        sharded_adjoint(bias, params, np.zeros((4, 8, 8)), sharded)
    with pytest.raises(hm.InputError, match="1 of 512 density cells .* NaN"):
        sharded_adjoint(
            bias, params, np.where(np.arange(512) == 400, np.nan, 0).reshape(8, 8, 8), sharded
        )
    with pytest.raises(hm.InputError, match="params has shape"):
        sharded_adjoint(bias, params[1:], np.zeros((8, 8, 8)), sharded)
    with pytest.raises(hm.InputError, match="same mass_threshold"):
        sharded_adjoint(hm.NeuralBias(mass_threshold=1e12), params, np.zeros((8, 8, 8)), sharded)
    with pytest.raises(hm.InputError, match="HaloCatalogue, expected what shard_catalogue"):
        sharded_adjoint(bias, params, np.zeros((8, 8, 8)), halos)
