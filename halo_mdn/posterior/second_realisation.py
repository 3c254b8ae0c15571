"""Scores of models on a second realisation: a field and halos that were not fitted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import xarray as xr
from scipy.special import logsumexp

from halo_mdn.bias.base import Bias
from halo_mdn.config import DataConfig, load_config
from halo_mdn.errors import InputError
from halo_mdn.io import RunData, load_data
from halo_mdn.likelihood.fixed_field import fixed_field_likelihood
from halo_mdn.posterior.comparison import check_same_blocks
from halo_mdn.posterior.reopened import bias_of_run, config_of, other_voxels, params_of
from halo_mdn.predictions.expected_counts import evaluate, expected_counts, observed_counts
from halo_mdn.predictions.sub_boxes import block_log_likelihood, block_volume, usable_blocks
from halo_mdn.provenance import sha256_of


def second_scores(
    file: Path, posteriors: Mapping[str, xr.DataTree], model_files: Sequence[Path] = ()
) -> dict[str, np.ndarray]:
    """Log predictive density of the halos of a file, (B,) for each model.

    Parameters
    ----------
    file : Path
        An exchange file (.h5), or a run file (.toml) of which only the table [data] is read.
    posteriors : mapping of str to xarray.DataTree
        Fits of the same halos.
    model_files : sequence of Path
        Model files, beside the shipped ones, that may be run.

    Raises
    ------
    InputError
        If the file is no such file, holds the halos that were fitted or voxels of another size.
    """
    elpd, blocks = {}, {}
    for name, posterior in posteriors.items():
        config = config_of(posterior)
        bias = bias_of_run(posterior, model_files)
        data = load_data(_second_config(file, config.data))
        _check_second(file, data, posterior)
        draws = posterior["log_likelihood"].to_dataset()["draw"].values
        params = params_of(posterior, bias)[:, draws]
        elpd[name], blocks[name] = second_realisation(bias, params, data)
        first = next(iter(blocks))
        check_same_blocks(first, blocks[first], name, blocks[name])
    return elpd


def second_realisation(
    bias: Bias, params: np.ndarray, data: RunData, wanted: int = 4
) -> tuple[np.ndarray, np.ndarray]:
    """Log predictive density of halos that were not fitted.

    Parameters
    ----------
    bias : Bias
    params : array (C, D, P)
        Posterior draws.
    data : RunData
        The other field and its halos.
    wanted : int
        Sub-boxes per side.

    Returns
    -------
    elpd : array (B,)
        ``ln mean_draws L_b`` of each sub-box with any volume.
    blocks : array (2, B)
        Volume and number of halos of each.
    """
    log_l = fixed_field_likelihood(bias, data.delta, data.halos)
    per_side = usable_blocks(log_l, wanted)
    label = log_l.halos.domain.sub_boxes(per_side)
    edges = np.log([bias.mass_threshold])
    expected = evaluate(expected_counts(log_l, label, edges), params)[..., 0]
    values = block_log_likelihood(log_l, label, params, expected)
    volume = block_volume(log_l, per_side)
    blocks = np.stack([volume, observed_counts(log_l, label, edges)[:, 0]])
    num_draws = values.shape[0] * values.shape[1]
    elpd = logsumexp(values, axis=(0, 1)) - np.log(num_draws)
    return elpd[volume > 0], blocks[:, volume > 0]


def _second_config(path: Path, fitted: DataConfig) -> DataConfig:
    if path.suffix == ".toml":
        return load_config(path).data
    if path.suffix not in (".h5", ".hdf5"):
        raise InputError(
            f"--second is {path}, expected an exchange file (.h5) or a run file (.toml)"
        )
    return DataConfig(
        field=str(path),
        catalogue=(str(path),),
        boundary=fitted.boundary,
        mass_threshold=fitted.mass_threshold,
        below_threshold=fitted.below_threshold,
        density_floor=fitted.density_floor,
        mass_scatter=fitted.mass_scatter,
        threshold_completeness=fitted.threshold_completeness,
        completeness_slope=fitted.completeness_slope,
    )


def _check_second(file: Path, data: RunData, posterior: xr.DataTree) -> None:
    halos = data.halos
    if sha256_of(halos.voxel, halos.log_mass, halos.selected) == posterior.attrs["halos_sha256"]:
        raise InputError(f"--second {file} holds the halos that were fitted, expected others")
    if difference := other_voxels(posterior, halos.grid):
        raise InputError(
            f"--second {file} has {difference}: a bias holds at the resolution at which it was "
            "learned"
        )
