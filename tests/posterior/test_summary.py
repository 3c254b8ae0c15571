"""The container, its file, and the table that is computed from it."""

from __future__ import annotations

import csv
import io
import json
import warnings
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
import xarray as xr

import halo_mdn as hm
from halo_mdn.files import replace_file
from halo_mdn.posterior import summary as diagnostics
from halo_mdn.posterior.counts import count_checks
from halo_mdn.posterior.mode_report import record_modes
from halo_mdn.sampling import Modes
from halo_mdn.sampling.nuts.convergence import convergence
from halo_mdn.sampling.nuts.draws import Draws
from tests.run_for_tests import TRUTH, good_posterior, independent_draws, mock_fit, posterior_of


def values(posterior: xr.DataTree, group: str, name: str) -> np.ndarray:
    return posterior[group].to_dataset()[name].values


def row_of(posterior: xr.DataTree, label: str) -> diagnostics.Row:
    return next(row for row in diagnostics.table(posterior) if row.label == label)


def with_params(draws: Draws, params: np.ndarray) -> Draws:
    return draws._replace(params=params)


# The container


def test_blocks_pack_back_into_the_draws() -> None:
    fit, draws = mock_fit(), independent_draws()
    posterior = good_posterior()
    blocks = {name: values(posterior, "posterior", name) for name in fit.bias.block_shapes}
    np.testing.assert_array_equal(fit.bias.pack(blocks), draws.params)


def test_parameters_have_named_dimensions_and_labels() -> None:
    weights = good_posterior()["posterior"]["kernel_weights"]
    assert weights.dims == ("chain", "draw", "filter", "kernel_weight")
    assert list(weights.coords["kernel_weight"].values) == mock_fit().bias.coords["kernel_weight"]


def test_sample_statistics_have_arviz_names() -> None:
    stats = good_posterior()["sample_stats"]
    wanted = {"energy", "diverging", "n_steps", "tree_depth", "acceptance_rate", "lp", "step_size"}
    assert wanted | {"reached_max_treedepth"} == set(stats.data_vars)
    lp = -independent_draws().stats["potential_energy"]
    np.testing.assert_array_equal(stats["lp"].values, lp)


def test_log_intensity_is_that_of_the_representative_voxels() -> None:
    fit = mock_fit()
    posterior = good_posterior()["posterior"]
    log_mass = np.log(posterior["halo_mass"].values)
    of_field = hm.log_intensity(fit.bias, TRUTH, fit.delta, fit.grid, log_mass)
    of_field = np.asarray(of_field).reshape(len(log_mass), -1)
    one_draw = independent_draws(1, 2, scale=0.0)
    ours = values(posterior_of(one_draw), "posterior", "log_intensity")[0, 0]
    # Each environment must be one of the voxels, at all masses at once.
    for environment in ours:
        mismatch = np.abs(of_field - environment[:, None]).max(axis=0)
        assert mismatch.min() < 1e-9  # same formula, so rounding of values near -40 only


@pytest.mark.parametrize("boundary", ["periodic", "interior"])
def test_expected_total_is_the_integral_over_the_field(boundary: str) -> None:
    fit = mock_fit(boundary)
    draws = independent_draws(2, 3, scale=0.05)
    total = values(posterior_of(draws, fit), "posterior", "expected_total")
    for chain, draw in np.ndindex(2, 3):
        log_lambda = hm.log_expected(fit.bias, draws.params[chain, draw], fit.delta, fit.grid)
        direct = fit.grid.voxel_volume * np.exp(log_lambda).sum()
        np.testing.assert_allclose(total[chain, draw], direct, rtol=1e-10)


def test_expected_by_mass_is_the_intensity_integrated_over_the_bin() -> None:
    fit = mock_fit()
    posterior = posterior_of(independent_draws(1, 2, scale=0.0))
    by_mass = values(posterior, "posterior", "expected_by_mass")[0, 0]
    lower = np.log(values(posterior, "constant_data", "mass_bin_lower"))
    upper = np.append(lower[1:], lower[-1] + 15)
    for low, high, ours in zip(lower, upper, by_mass, strict=True):
        log_mass = np.linspace(low, high, 801)
        log_n = hm.log_intensity(fit.bias, TRUTH, fit.delta, fit.grid, log_mass)
        per_log_mass = np.exp(np.asarray(log_n) + log_mass[:, None, None, None]).sum(axis=(1, 2, 3))
        quadrature = fit.grid.voxel_volume * np.trapezoid(per_log_mass, log_mass)
        np.testing.assert_allclose(ours, quadrature, rtol=2e-4)  # trapezoids


@pytest.mark.parametrize("boundary", ["periodic", "interior"])
def test_log_likelihood_by_block_is_that_of_the_library(boundary: str) -> None:
    fit = mock_fit(boundary)
    draws = independent_draws(2, 3, scale=0.05)
    posterior = posterior_of(draws, fit, blocks_per_side=2)
    blocks = values(posterior, "log_likelihood", "poisson_process")
    for chain, draw in np.ndindex(2, 3):
        params = draws.params[chain, draw]
        exact = np.asarray(fit.log_l.by_block(params, 2))
        np.testing.assert_allclose(blocks[chain, draw], exact, rtol=1e-10)
        np.testing.assert_allclose(blocks[chain, draw].sum(), fit.log_l(params), rtol=1e-10)


def test_completeness_and_catalogues_enter_expected_counts() -> None:
    fit = mock_fit()
    coverage = np.ones(fit.grid.shape)
    coverage[:4] = 0.0
    coverage[4:, :4] = 0.4
    halos = hm.HaloCatalogue.from_voxels(
        fit.halos.voxel, fit.halos.log_mass, fit.grid, completeness=coverage
    )
    twice = hm.HaloCatalogue.stack([halos, halos])
    draws = independent_draws(1, 2, scale=0.0)
    posterior = posterior_of(draws, fit._replace(halos=twice))
    expected = np.exp(hm.log_expected(fit.bias, TRUTH, fit.delta, fit.grid))
    wanted = 2 * fit.grid.voxel_volume * (coverage * expected).sum()
    np.testing.assert_allclose(values(posterior, "posterior", "expected_total"), wanted, rtol=1e-10)
    assert values(posterior, "observed_data", "halos_total") == twice.num_halos
    log_l = hm.fixed_field_likelihood(fit.bias, fit.delta, twice)
    blocks = values(posterior, "log_likelihood", "poisson_process")
    np.testing.assert_allclose(blocks[0, 0].sum(), log_l(TRUTH), rtol=1e-10)


def test_observed_counts_are_histograms_of_the_catalogue() -> None:
    fit, posterior = mock_fit(), good_posterior()
    lower = values(posterior, "constant_data", "mass_bin_lower")
    by_mass = np.histogram(fit.halos.mass, [*(lower * (1 - 1e-9)), np.inf])[0]
    observed = posterior["observed_data"].to_dataset()
    np.testing.assert_array_equal(observed["halos_by_mass"].values, by_mass)
    assert observed["halos_by_environment"].values.sum() == fit.halos.num_halos
    octants = np.histogramdd(fit.halos.voxel, bins=[np.arange(0, 9, 2)] * 3)[0]
    np.testing.assert_array_equal(observed["halos_by_block"].values, octants.ravel())


def test_predictive_counts_scatter_like_poisson_around_their_mean() -> None:
    draws = independent_draws(4, 250, scale=0.0)
    posterior = posterior_of(draws, predictive_draws=1000)
    counts = values(posterior, "posterior_predictive", "halos_by_mass").reshape(1000, -1)
    mean = values(posterior, "posterior", "expected_by_mass")[0, 0]
    # 1000 Poisson draws: the mean is known to sqrt(mean/1000), the variance to 4.5 %.
    np.testing.assert_array_less(np.abs(counts.mean(axis=0) - mean), 4.5 * np.sqrt(mean / 1000))
    large = mean > 20
    np.testing.assert_allclose(counts.var(axis=0)[large] / mean[large], 1, atol=0.2)


def test_thinned_groups_say_which_draws_they_hold() -> None:
    posterior = posterior_of(independent_draws(2, 100), predictive_draws=20)
    draw = posterior["log_likelihood"]["draw"].values
    np.testing.assert_array_equal(draw, np.arange(0, 100, 10))
    expected = values(posterior, "posterior_predictive", "expected_by_environment")
    total = values(posterior, "posterior", "expected_total")[:, draw]
    np.testing.assert_allclose(expected.sum(axis=(2, 3)), total, rtol=1e-12)


def test_the_slab_holds_the_halos_and_densities_of_its_columns() -> None:
    fit, posterior = mock_fit(), good_posterior()
    depth = float(values(posterior, "constant_data", "slab_depth"))
    layers = slice(2, 6)  # 4 voxels of 4 Mpc/h, in the middle of 8
    assert depth == 16.0
    in_slab = (fit.halos.voxel[:, 2] >= 2) & (fit.halos.voxel[:, 2] < 6)
    columns = np.histogram2d(*fit.halos.voxel[in_slab, :2].T, bins=[np.arange(9)] * 2)[0]
    np.testing.assert_array_equal(values(posterior, "constant_data", "slab_observed"), columns)
    density = 1 + fit.delta[:, :, layers].mean(axis=2)
    np.testing.assert_allclose(values(posterior, "constant_data", "slab_density"), density)
    expected = np.exp(hm.log_expected(fit.bias, TRUTH, fit.delta, fit.grid))
    exact = values(posterior_of(independent_draws(1, 2, scale=0)), "constant_data", "slab_expected")
    direct = 64.0 * np.asarray(expected)[:, :, layers].sum(axis=2)
    np.testing.assert_allclose(exact, direct, rtol=1e-10)


def test_attributes_hold_provenance() -> None:
    attrs = good_posterior().attrs
    assert attrs["seed"] == 7 and attrs["redshift"] == "" and attrs["num_gradients"] == 12200
    assert {"jax_version", "numpyro_version", "arviz_version", "created_at"} <= set(attrs)
    nested = posterior_of(independent_draws(2, 4), attrs={"hashes": {"field": "abc"}, "flag": True})
    assert json.loads(nested.attrs["hashes"]) == {"field": "abc"}


def test_the_hash_of_the_field_changes_with_the_field() -> None:
    fit, draws = mock_fit(), independent_draws(2, 4)
    other = fit.delta.copy()
    other[0, 0, 0] *= 1 + 1e-15
    changed = posterior_of(draws, fit._replace(delta=other)).attrs
    assert changed["delta_sha256"] != good_posterior().attrs["delta_sha256"]
    assert changed["halos_sha256"] == good_posterior().attrs["halos_sha256"]


def test_draws_of_another_model_are_refused() -> None:
    draws = independent_draws(2, 5)
    with pytest.raises(hm.InputError, match="expected .*17"):
        posterior_of(with_params(draws, draws.params[..., :16]))


def test_a_model_with_two_filters_goes_voxel_by_voxel() -> None:
    fit = mock_fit()
    bias = hm.NeuralBias(filters=2, components=1)
    params = 0.1 * np.random.default_rng(1).normal(size=(2, 3, bias.num_params))
    draws = with_params(independent_draws(2, 3), params)
    posterior = posterior_of(draws, fit._replace(bias=bias))
    expected = np.exp(hm.log_expected(bias, params[1, 2], fit.delta, fit.grid)).sum() * 64.0
    total = values(posterior, "posterior", "expected_total")[1, 2]
    np.testing.assert_allclose(total, expected, rtol=1e-10)


def test_float32_agrees_with_float64() -> None:
    fit = mock_fit()
    with jax.enable_x64(False):
        log_l = hm.fixed_field_likelihood(fit.bias, np.float32(fit.delta), fit.halos)
        assert log_l.features.dtype == np.float32
        single = posterior_of(independent_draws(2, 4), fit._replace(delta=np.float32(fit.delta)))
    double = posterior_of(independent_draws(2, 4))
    name = ("posterior", "expected_total")
    # Sums of 1728 float32 numbers, each good to about 1e-6.
    np.testing.assert_allclose(values(single, *name), values(double, *name), rtol=3e-5)


# The file


def test_a_file_gives_back_the_container(tmp_path: Path) -> None:
    path = diagnostics.write(good_posterior(), tmp_path / "new" / "posterior.nc")
    again = diagnostics.read(path)
    xr.testing.assert_identical(again, good_posterior())
    assert diagnostics.summarise(again).to_csv() == diagnostics.summarise(good_posterior()).to_csv()


def test_arviz_opens_the_file(tmp_path: Path) -> None:
    path = diagnostics.write(good_posterior(), tmp_path / "posterior.nc")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ArviZ 0.23 announces 1.0
        import arviz

        opened = arviz.from_netcdf(path)
        rhat = arviz.rhat(opened)
        loo = arviz.loo(opened)
    assert abs(float(rhat["expected_total"]) - 1) < 0.01
    assert loo.n_data_points == 64 and loo.n_samples == 4 * 100


def test_a_failed_write_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "posterior.nc"
    path.write_text("old")

    def fail(part: Path) -> None:
        part.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        replace_file(path, fail)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_files_that_are_no_posterior_are_refused(tmp_path: Path) -> None:
    text, other = tmp_path / "text.nc", tmp_path / "other.nc"
    text.write_text("not netCDF")
    xr.Dataset({"a": 1}).to_netcdf(other, engine="h5netcdf")
    for path, message in (
        (tmp_path / "missing.nc", "holds no missing.nc"),
        (text, "cannot read"),
        (other, "not a posterior"),
    ):
        with pytest.raises(hm.InputError, match=message):
            diagnostics.read(path)


# The table


def autoregressive(coefficient: float, shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    series = np.empty(shape)
    series[:, 0] = random.normal(size=shape[0]) / np.sqrt(1 - coefficient**2)
    for i in range(1, shape[1]):
        series[:, i] = coefficient * series[:, i - 1] + random.normal(size=shape[0])
    return series


def container_of(series: np.ndarray, **stats: np.ndarray) -> xr.DataTree:
    dims = ("chain", "draw")
    coords = {dim: np.arange(n) for dim, n in zip(dims, series.shape, strict=True)}
    given = {"energy": np.random.default_rng(1).normal(size=series.shape), **stats}
    groups = {"posterior": {"expected_total": series}, "sample_stats": given}
    return xr.DataTree.from_dict(
        {
            f"/{name}": xr.Dataset({k: (dims, v) for k, v in group.items()}, coords)
            for name, group in groups.items()
        }
    )


def test_effective_sample_size_of_an_autoregressive_chain() -> None:
    series = autoregressive(0.8, (4, 4000))
    row = row_of(container_of(series), "expected_total")
    wanted = series.size * (1 - 0.8) / (1 + 0.8)
    assert row.ess_bulk == pytest.approx(wanted, rel=0.15)  # scatter of the estimate: 5 %
    sd = 1 / np.sqrt(1 - 0.8**2)
    assert row.mcse == pytest.approx(sd / np.sqrt(wanted), rel=0.1)
    assert row.mean == pytest.approx(series.mean()) and row.sd == pytest.approx(sd, rel=0.05)


def test_chains_that_disagree_have_a_large_rhat() -> None:
    series = autoregressive(0.0, (4, 500))
    assert row_of(container_of(series), "expected_total").rhat < 1.01
    series[2] += 1.0
    assert row_of(container_of(series), "expected_total").rhat > 1.05
    wider = autoregressive(0.0, (4, 500))
    wider[1] *= 4  # same mean: only the folded ranks see it
    assert row_of(container_of(wider), "expected_total").rhat > 1.05


def test_the_table_agrees_with_the_monitor_of_the_sampler() -> None:
    series = autoregressive(0.5, (4, 600)) + np.array([0, 0, 0, 0.3])[:, None]
    row = row_of(container_of(series), "expected_total")
    live = convergence(series[..., None])
    assert live is not None
    assert row.rhat == pytest.approx(live.worst_rhat, abs=2e-3)
    assert row.ess == pytest.approx(live.min_ess, rel=0.05)


def test_ebfmi_follows_its_definition() -> None:
    energy = autoregressive(0.9, (3, 800))
    statistics = diagnostics.run_statistics(container_of(energy, energy=energy))
    for chain, ours in enumerate(statistics.ebfmi):
        change, spread = np.diff(energy[chain]), energy[chain] - energy[chain].mean()
        assert ours == pytest.approx(np.mean(change**2) / np.mean(spread**2), rel=5e-3)
    assert statistics.least_ebfmi == min(statistics.ebfmi) < 0.3


def test_run_statistics_count_what_the_sampler_did() -> None:
    draws = independent_draws(2, 50)
    draws.stats["diverging"][1, 3] = True
    draws.stats["num_steps"][0, :10] = 2**5 - 1
    statistics = diagnostics.run_statistics(posterior_of(draws, max_tree_depth=5))
    assert (statistics.num_divergences, statistics.saturation) == (1, 0.1)
    assert statistics.num_gradients == 7 * 100 + 1000 and statistics.wall_time_s == 2.0


def test_good_draws_are_trusted_and_the_truth_is_inside() -> None:
    summary = diagnostics.summarise(good_posterior())
    assert summary.verdict.ok, summary.verdict.to_text()
    parameters = [row for row in summary.rows if row.kind == "parameter"]
    assert len(parameters) == 17
    deviation = [(row.mean - t) / row.mcse for row, t in zip(parameters, TRUTH, strict=True)]
    assert np.abs(deviation).max() < 4.5  # 17 standard normal numbers


def test_text_and_csv_hold_every_quantity() -> None:
    summary = diagnostics.summarise(good_posterior())
    text, records = summary.to_text(), list(csv.DictReader(io.StringIO(summary.to_csv())))
    assert len(records) == len(summary.rows) == 17 + 36 + 8 + 1
    for record, row in zip(records, summary.rows, strict=True):
        assert row.label == record["name"] and row.label in text
        assert float(record["ess_tail"]) == row.ess_tail
    table = [line for line in text.splitlines() if line.startswith(("kernel_", "expected_"))]
    assert len({len(line) for line in table}) == 1  # aligned


# Degenerate runs: no crash, and never "converged"


def spoiled(kind: str) -> Draws:
    draws = independent_draws(4, 60)
    params = draws.params.copy()
    if kind == "one chain":
        return independent_draws(1, 100)
    if kind == "few draws":
        return independent_draws(4, 3)
    if kind == "one draw":
        return independent_draws(4, 1)
    if kind == "one chain, one draw":
        return independent_draws(1, 1)
    if kind == "a constant chain":
        params[2] = params[2, :1]
    if kind == "all constant":
        params[:] = TRUTH
    if kind == "a NaN":
        params[1, 17, 3] = np.nan
    if kind == "overflow":
        params[1, 17, 15] = 1e200
    if kind == "two modes":
        params[3, :, 7] += 0.3
    if kind == "NaN energy":
        draws.stats["energy"][1, 5] = np.nan
    return with_params(draws, params)


KINDS = [
    "one chain",
    "few draws",
    "one draw",
    "one chain, one draw",
    "a constant chain",
    "all constant",
    "a NaN",
    "overflow",
    "two modes",
    "NaN energy",
]


@pytest.mark.parametrize("kind", KINDS)
def test_degenerate_runs_are_never_trusted(kind: str, tmp_path: Path) -> None:
    posterior = posterior_of(spoiled(kind))
    summary = diagnostics.summarise(posterior)
    assert summary.verdict.grade == "do not use", summary.verdict.to_text()
    assert summary.verdict.advice
    summary.write_text(tmp_path / "summary.txt")
    diagnostics.read(diagnostics.write(posterior, tmp_path / "posterior.nc"))


def test_empty_draws_are_refused() -> None:
    with pytest.raises(hm.InputError, match="draws have shape"):
        posterior_of(independent_draws(4, 0))


def test_mirror_modes_of_the_weights_do_not_condemn_the_functions() -> None:
    draws = independent_draws()
    params = draws.params.copy()
    # Without NPE dependence of the heads, the kernel is free: any value gives the same functions.
    params[..., [5, 6, 9, 10, 13, 14]] = 0.0
    params[2:, :, 0] *= -1
    posterior = posterior_of(with_params(draws, params))
    verdict = diagnostics.summarise(posterior).verdict
    assert row_of(posterior, "kernel_weights[0, l=0 r2=0]").rhat > 1.5
    assert verdict.ok
    assert any("raw parameters" in line and "mirror" in line for line in verdict.advice)


def test_modes_are_recorded_written_and_judged(tmp_path: Path) -> None:
    draws = independent_draws()
    other = TRUTH.copy()
    other[0] += 5.0
    curvature = np.tile(-np.eye(17) / 0.01**2, (2, 1, 1))
    heights = np.array([0.0, -np.log(4.0)])  # weights 0.8 and 0.2: nobody was at the other one
    modes = Modes(np.stack([TRUTH, other]), heights, curvature, np.zeros(2, bool))
    posterior = record_modes(good_posterior(), modes, draws.params, lambda params: params[:4])
    path = diagnostics.write(posterior, tmp_path / "posterior.nc")
    summary = diagnostics.summarise(diagnostics.read(path))
    assert summary.verdict.grade == "do not use"
    assert "no chain represents 1 of 2 modes, with 20 %" in summary.verdict.sentence
    assert "mode 1: weight 0.2" in summary.to_text() and "no chain" in summary.to_text()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        import arviz

        opened = arviz.from_netcdf(path)
    assert not any("group is not" in str(warning.message) for warning in warned)
    np.testing.assert_array_equal(opened["sample_stats"]["mode"], 0)


# Model checks


def test_a_wrong_model_is_named_beside_the_verdict() -> None:
    draws = independent_draws()
    params = draws.params.copy()
    params[..., 11] -= 1.5  # halos of a fifth of the mass
    summary = diagnostics.summarise(posterior_of(with_params(draws, params)))
    assert summary.verdict.ok and "Model check" in summary.verdict.advice[-1]
    assert "not every prediction" in summary.verdict.sentence


def test_count_checks_compare_observed_with_predicted() -> None:
    (total,) = count_checks(good_posterior(), "halos_total")
    assert total.observed == mock_fit().halos.num_halos
    assert total.low < total.expected < total.high and abs(total.deviation) < 4
    fewer = mock_fit().halos
    fewer = replace(fewer, selected=fewer.selected & (np.arange(len(fewer.selected)) % 2 == 0))
    (half,) = count_checks(
        posterior_of(independent_draws(), mock_fit()._replace(halos=fewer)), "halos_total"
    )
    assert half.deviation < -4 and half.observed < half.low
