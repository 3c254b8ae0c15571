from __future__ import annotations

import json

import jax
import numpy as np
import pytest

from halo_mdn.sampling import CheckpointError
from halo_mdn.sampling.nuts.checkpoint import (
    FORMAT,
    fingerprint_of,
    load_checkpoint,
    save_checkpoint,
)

ARRAYS = {"x": np.arange(5.0), "done": np.array(3)}
FINGERPRINT = {"seed": 1, "grid": [8, 8, 8], "scale": 10.0}


@pytest.fixture
def stored(tmp_path):
    path = tmp_path / "folder" / "checkpoint.npz"
    save_checkpoint(path, ARRAYS, FINGERPRINT)
    return path


def test_what_was_saved_comes_back(stored):
    loaded = load_checkpoint(stored, FINGERPRINT)
    assert loaded.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(loaded[name], array)
        assert loaded[name].dtype == array.dtype


def test_every_difference_is_named(stored):
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(stored, {"seed": 2, "grid": (8, 8, 8), "data": "abc"})
    message = str(caught.value)
    assert "seed is 2 now and was 1" in message
    assert "scale is not set now and was 10.0" in message
    assert "data is 'abc' now and was not set" in message
    assert "grid" not in message


def test_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint at .*nowhere.npz"):
        load_checkpoint(tmp_path / "nowhere.npz")


@pytest.mark.parametrize("keep", [0, 1, 10, 0.5, 0.9, -1])
def test_truncated_file_is_called_damaged(stored, keep):
    content = stored.read_bytes()
    stored.write_bytes(content[: int(keep * len(content)) if 0 < keep < 1 else keep])
    with pytest.raises(CheckpointError, match="Delete it and start afresh"):
        load_checkpoint(stored, FINGERPRINT)


def test_any_flipped_byte_of_the_arrays_is_noticed(stored):
    content = bytearray(stored.read_bytes())
    place = content.index(ARRAYS["x"].tobytes()) + 11
    content[place] ^= 0x40
    stored.write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(stored, FINGERPRINT)


def test_pickles_are_never_loaded(tmp_path):
    path = tmp_path / "checkpoint.npz"
    np.savez(path, header=np.array([{"format": 1}], dtype=object))
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(path)


def test_other_npz_files_are_refused(tmp_path):
    path = tmp_path / "checkpoint.npz"
    np.savez(path, delta=np.zeros(3))
    with pytest.raises(CheckpointError, match="damaged or something else"):
        load_checkpoint(path)


def test_failed_write_leaves_the_old_file_and_nothing_else(stored):
    with pytest.raises(TypeError):
        save_checkpoint(stored, ARRAYS, {"bad": object()})

    class Broken:
        def __array__(self, dtype=None, copy=None):
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        save_checkpoint(stored, {"x": Broken()}, FINGERPRINT)
    assert [p.name for p in stored.parent.iterdir()] == [stored.name]
    assert load_checkpoint(stored, FINGERPRINT)["done"] == 3


def test_fingerprint_sees_values_shapes_and_types():
    base = np.arange(6.0)
    prints = {
        fingerprint_of(x)
        for x in (base, base + 1e-12, base.reshape(2, 3), base.astype("f4"), base[::-1])
    }
    assert len(prints) == 5
    assert fingerprint_of({"a": base}) == fingerprint_of({"a": jax.numpy.asarray(base)})


@pytest.mark.parametrize("edit", [{"done": np.array(2)}, {"x": np.arange(5.0) + 1e-15}])
def test_numbers_that_were_changed_by_hand_are_noticed(stored, edit):
    with np.load(stored) as content:
        arrays = {name: content[name] for name in content.files}
    np.savez(stored, **{**arrays, **edit})
    with pytest.raises(CheckpointError, match="not those that were written"):
        load_checkpoint(stored, FINGERPRINT)


def test_a_checkpoint_of_version_0_1_0_is_read(stored):
    """It states no digest of its numbers."""
    header = {"format": FORMAT, "fingerprint": FINGERPRINT}
    np.savez(stored, **ARRAYS, header=np.array(json.dumps(header)))
    assert load_checkpoint(stored, FINGERPRINT)["done"] == 3
