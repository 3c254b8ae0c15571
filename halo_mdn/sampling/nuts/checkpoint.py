"""Checkpoints: one file that holds all a run needs to go on, written so that it is never torn."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from halo_mdn.files import write_file

FORMAT = "halo_mdn NUTS checkpoint 1"


class CheckpointError(ValueError):
    """A checkpoint is missing, damaged, or belongs to another run."""


def fingerprint_of(tree: Any) -> str:
    """SHA-256 over shapes, types and bytes of all arrays in a pytree (16 hexadecimal digits)."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        array = np.ascontiguousarray(jax.device_get(leaf))
        digest.update(f"{array.shape}{array.dtype.str}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:16]


def plain_arrays(tree: Any, name: str) -> dict[str, np.ndarray]:
    """The leaves of a pytree of arrays and random keys, exactly, as ``{"name_0000": array}``."""
    return {f"{name}_{i:04d}": _plain(leaf) for i, leaf in enumerate(jax.tree.leaves(tree))}


def restored(tree: Any, arrays: Mapping[str, np.ndarray], name: str) -> Any:
    """A pytree like ``tree`` with the leaves that `plain_arrays` returned.

    Raises
    ------
    KeyError, ValueError
        If they are not there, or have other shapes or types.
    """
    leaves, structure = jax.tree.flatten(tree)
    stored = [arrays[f"{name}_{i:04d}"] for i in range(len(leaves))]
    found = [_like(leaf, array) for leaf, array in zip(leaves, stored, strict=True)]
    return jax.tree.unflatten(structure, found)


def save_checkpoint(
    path: Path, arrays: Mapping[str, np.ndarray], fingerprint: Mapping[str, Any]
) -> None:
    """Write a checkpoint; a reader sees the old file or the new one, never a part.

    Parameters
    ----------
    path
        The file; its folder is made if need be.
    arrays
        What to keep.
    fingerprint
        What must be the same when the run goes on; values that JSON can hold.

    Raises
    ------
    WriteError
        If it cannot be written; the checkpoint before it is as it was.
    """
    header = {"format": FORMAT, "fingerprint": dict(fingerprint), "content": _digest(arrays)}
    text = np.array(json.dumps(header, sort_keys=True))
    memory = io.BytesIO()
    np.savez(memory, **{**arrays, "header": text})  # type: ignore[arg-type]
    write_file(path, memory.getbuffer())


def load_checkpoint(
    path: Path, fingerprint: Mapping[str, Any] | None = None
) -> dict[str, np.ndarray]:
    """Read a checkpoint and make sure that it belongs to this run.

    Parameters
    ----------
    path
        The file.
    fingerprint
        As given to `save_checkpoint`; None reads without comparing.

    Returns
    -------
    dict
        The arrays.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, changed since it was written, or its fingerprint differs;
        the message names every difference.
    """
    if not path.is_file():
        raise CheckpointError(f"There is no checkpoint at {path}; start without resuming.")
    try:
        # Opened here, because np.load leaves the file open where it fails.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        header = json.loads(str(arrays.pop("header")[()]))
        found = header["fingerprint"]
        if header["format"] != FORMAT:
            raise CheckpointError(
                f"{path} has format {header['format']!r}, expected {FORMAT!r}; it was written by "
                "another version: finish the run there, or start afresh without resuming."
            )
        if header.get("content", digest := _digest(arrays)) != digest:  # version 0.1 states none
            raise ValueError("its numbers are not those that were written")
    except CheckpointError:
        raise
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint ({type(error).__name__}: {error}); it is "
            "damaged or something else. Delete it and start afresh without resuming."
        ) from error
    if fingerprint is not None:
        _check_same_run(path, found, json.loads(json.dumps(dict(fingerprint))))
    return arrays


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    """What changes with any number, name, shape or type."""
    return fingerprint_of([(np.array(name), arrays[name]) for name in sorted(arrays)])


def _check_same_run(path: Path, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    differing = [
        f"{name} is {_shown(expected, name)} now and was {_shown(found, name)}"
        for name in sorted({*found, *expected})
        if found.get(name, ...) != expected.get(name, ...)
    ]
    if differing:
        raise CheckpointError(
            f"{path} belongs to another run: {'; '.join(differing)}. Restore that, or start "
            "afresh without resuming."
        )


def _shown(values: Mapping[str, Any], name: str) -> str:
    return repr(values[name]) if name in values else "not set"


def _plain(leaf: jax.Array) -> np.ndarray:
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


def _like(leaf: jax.Array, array: np.ndarray) -> jax.Array:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(jnp.asarray(array), impl=jax.random.key_impl(leaf))
    if leaf.shape != array.shape or leaf.dtype != array.dtype:
        raise ValueError(
            f"a stored array is {array.dtype}{array.shape}, expected {leaf.dtype}{leaf.shape}"
        )
    return jnp.asarray(array)
