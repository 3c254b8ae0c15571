"""Mocks from a posterior: what they hold, that they carry its uncertainty, that none is lost."""

from __future__ import annotations

from pathlib import Path

import h5py
import jax
import numpy as np
import pytest

import halo_mdn as hm
from halo_mdn import launch
from halo_mdn.config import DataConfig, ModelConfig, RunConfig, to_json
from halo_mdn.config.model_files import bias_of
from halo_mdn.io.formats.exchange import read_exchange
from halo_mdn.mocks import posterior_catalogues as mocks
from halo_mdn.mocks import simulation
from halo_mdn.posterior import summary as diagnostics
from halo_mdn.posterior.reopened import config_of, params_of
from tests.run_for_tests import independent_draws, mock_fit, posterior_of


@pytest.fixture(autouse=True)
def without_jax_settings(monkeypatch) -> None:
    monkeypatch.setattr("halo_mdn.cli.predict.set_up_jax", lambda runtime: "cpu, float64")


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A finished run on a small box, with the files that its configuration names."""
    fit = mock_fit()
    np.save(tmp_path / "delta.npy", fit.delta)
    np.savez(tmp_path / "halos.npz", position=fit.halos.position, mass=fit.halos.mass)
    data = DataConfig(
        field=str(tmp_path / "delta.npy"),
        catalogue=(str(tmp_path / "halos.npz"),),
        box_size=(32.0,),
    )
    attrs = {"config": to_json(RunConfig(data=data)), "redshift": 0.5, "mass_definition": "200m"}
    posterior = posterior_of(independent_draws(), attrs=attrs, predictive_draws=20)
    diagnostics.write(posterior, tmp_path / "run" / "posterior.nc")
    return tmp_path / "run"


def call(*arguments: object) -> int:
    return launch.main(["predict", *map(str, arguments)])


def test_configuration_and_draws_come_back_from_the_container(run_folder) -> None:
    posterior = diagnostics.read(run_folder / "posterior.nc")
    config = config_of(posterior)
    assert config.data.box_size == (32.0,)
    assert bias_of(config) == mock_fit().bias
    params = params_of(posterior, bias_of(config))
    np.testing.assert_array_equal(params, independent_draws().params)


def test_the_bias_of_every_shape_of_model_comes_back() -> None:
    model = ModelConfig(kernel_size=(5,), hidden_layers=(3, 2), components=3, ordering="softplus")
    config = RunConfig(seed=4, model=model)
    posterior = posterior_of(independent_draws(2, 8), attrs={"config": to_json(config)})
    assert config_of(posterior) == config
    assert bias_of(config).hidden_layers == (3, 2)
    with pytest.raises(hm.InputError, match="no block kernel_weights"):
        params_of(posterior, bias_of(config))


def test_a_posterior_without_configuration_is_refused() -> None:
    with pytest.raises(hm.InputError, match="with which configuration"):
        config_of(posterior_of(independent_draws(2, 8)))
    strange = {"config": '{"data": {"unheard_of": 1}}'}
    with pytest.raises(hm.InputError, match="unheard_of"):
        config_of(posterior_of(independent_draws(2, 8), attrs=strange))


def test_hdf5_mocks_are_exchange_files_that_share_the_density(run_folder, capsys) -> None:
    assert call(run_folder, "--num", 3, "--seed", 5) == 0
    assert "3 catalogues of" in capsys.readouterr().out
    fit, folder = mock_fit(), run_folder / "mocks"
    assert sorted(path.name for path in folder.iterdir()) == [
        "density.h5", "mock_0000.h5", "mock_0001.h5", "mock_0002.h5",
    ]  # fmt: skip
    content = read_exchange(folder / "mock_0001.h5")
    np.testing.assert_array_equal(content.delta, fit.delta)
    assert (content.redshift, content.mass_definition) == (0.5, "200m")
    with h5py.File(folder / "mock_0001.h5") as file:
        chain, draw = file.attrs["chain"], file.attrs["draw"]
    np.testing.assert_array_equal(content.params, independent_draws().params[chain, draw])
    assert content.mass.min() >= fit.bias.mass_threshold
    with h5py.File(folder / "mock_0001.h5") as file:
        assert isinstance(file.get("density", getlink=True), h5py.ExternalLink)


def test_mocks_are_those_of_simulate_and_do_not_depend_on_how_many() -> None:
    fit, params = mock_fit(), independent_draws(2, 6).params
    field = mocks.MockField(fit.delta, fit.grid)
    few = list(mocks.draw_mocks(fit.bias, params, field, num=2, seed=3))
    many = list(mocks.draw_mocks(fit.bias, params, field, num=14, seed=3))
    np.testing.assert_array_equal(few[1].halos.position, many[1].halos.position)
    key = jax.random.fold_in(jax.random.PRNGKey(3), 1)
    again = hm.simulate(key, fit.bias, few[1].params, fit.delta, fit.grid)
    np.testing.assert_array_equal(few[1].halos.log_mass, again.log_mass)
    assert {(mock.chain, mock.draw) for mock in many[:12]} == set(np.ndindex(2, 6))


def test_counts_carry_poisson_noise_and_posterior_uncertainty() -> None:
    """The variance of the number of halos is its mean plus the variance of the expectation."""
    fit = mock_fit()
    params = independent_draws(1, 300, scale=0.06).params
    field = mocks.MockField(fit.delta, fit.grid)
    drawn = mocks.draw_mocks(fit.bias, params, field, num=300, seed=1)
    counts = np.array([mock.halos.num_halos for mock in drawn])
    expected = np.array(
        [fit.grid.voxel_volume * np.exp(hm.log_expected(fit.bias, p, fit.delta, fit.grid)).sum()
         for p in params[0]]
    )  # fmt: skip
    total = expected.mean() + expected.var()
    assert expected.var() > expected.mean()  # or the test could not tell
    assert abs(counts.mean() - expected.mean()) < 4 * np.sqrt(expected.mean() / 300)
    # the sample variance of 300 numbers scatters by sqrt(2/300) = 8 %
    assert abs(counts.var() / total - 1) < 4 * 0.08


def test_nothing_compiles_after_the_first_mock() -> None:
    fit, params = mock_fit(), independent_draws(2, 6).params
    drawn = mocks.draw_mocks(fit.bias, params, mocks.MockField(fit.delta, fit.grid), num=4)
    next(drawn)
    compiled = simulation._rates._cache_size()
    assert len(list(drawn)) == 3
    assert simulation._rates._cache_size() == compiled


def test_text_mocks_have_columns_by_name_on_another_field(run_folder, tmp_path) -> None:
    other = np.exp(np.random.default_rng(8).normal(0, 0.5, (6, 8, 10)) - 0.125) - 1
    np.save(tmp_path / "other.npy", other)
    arguments = ["--field", tmp_path / "other.npy", "--box_size", "24,32,40", "--format", "text"]
    assert call(run_folder, *arguments, "--num", 1, "--output", tmp_path / "out") == 0
    [path] = (tmp_path / "out").iterdir()
    lines = path.read_text().splitlines()
    names = lines[0].lstrip("#").split()
    table = np.loadtxt(path, ndmin=2)
    column = {name: table[:, i] for i, name in enumerate(names)}
    assert column["Mvir"].min() >= 2e12
    assert all(column[axis].max() <= side for axis, side in zip("XYZ", (24, 32, 40), strict=True))
    assert column["Z"].max() > 32
    assert any("Msun / h" in line for line in lines) and any("Mpc / h" in line for line in lines)
    assert "#a = 0.666667" in lines


def test_borg_sample_as_field(run_folder, tmp_path, capsys) -> None:
    """Its box comes from the restart file beside it; its values lie at corners, which is said."""
    delta = np.exp(np.random.default_rng(8).normal(0, 0.5, (6, 8, 10)) - 0.125) - 1
    with h5py.File(tmp_path / "mcmc_7.h5", "w") as file:
        file["scalars/BORG_final_density"] = delta
    arguments = ["--field", tmp_path / "mcmc_7.h5", "--num", 1, "--output", tmp_path / "out"]
    assert call(run_folder, *arguments) == 2
    assert "needs --box_size" in capsys.readouterr().err
    with h5py.File(tmp_path / "restart.h5_0", "w") as file:
        for axis, (number, side) in enumerate(zip((6, 8, 10), (24.0, 32.0, 40.0), strict=True)):
            for name, value in (("N", number), ("L", side), ("corner", -5.0)):
                file[f"scalars/{name}{axis}"] = np.array([value])
    assert call(run_folder, *arguments) == 0
    assert "subtract half a voxel" in " ".join(capsys.readouterr().out.split())
    content = read_exchange(tmp_path / "out" / "mock_0000.h5")
    assert content.grid.box_size == (24.0, 32.0, 40.0)
    np.testing.assert_array_equal(content.delta, delta)


def test_an_interrupted_series_leaves_whole_files_alone(run_folder, tmp_path, monkeypatch) -> None:
    fit, params = mock_fit(), independent_draws(2, 6).params
    field = mocks.MockField(fit.delta, fit.grid)
    paths = mocks.mock_paths(tmp_path / "series", 3, "hdf5")
    series = mocks.write_mocks(mocks.draw_mocks(fit.bias, params, field, num=3), paths, field)
    next(series)
    assert paths[0].exists() and not paths[1].exists()  # written as soon as it is drawn
    monkeypatch.setattr(h5py.File, "create_dataset", _fails)
    with pytest.raises(hm.InputError, match="cannot write .*mock_0001.h5: disk full"):
        next(series)
    assert sorted(path.name for path in paths[0].parent.iterdir()) == ["density.h5", "mock_0000.h5"]


def _fails(*arguments: object, **options: object) -> None:
    raise OSError("disk full")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--num", "0"], "--num is 0"),
        (["--field", "nowhere.npy", "--box_size", "a,b"], "a side or three"),
        (["--field", "nowhere.npy", "--box_size", "40"], "there is no file"),
        (["--field", "nowhere.h5"], "there is no file"),
        (["--box_size", "40"], "belong to --field"),
        (["--field_key", "delta"], "belong to --field"),
        (["--field_is", "density"], "belong to --field"),
        (["--format", "fits"], "invalid choice"),
    ],
)
def test_mistakes_are_answered_with_a_sentence(run_folder, capsys, arguments, complaint) -> None:
    assert call(run_folder, *arguments) == 2
    assert complaint in capsys.readouterr().err
    assert not (run_folder / "mocks").exists()


def test_mocks_are_not_overwritten_unless_asked(run_folder, capsys) -> None:
    assert call(run_folder, "--num", 1) == 0
    assert call(run_folder, "--num", 2, "--seed", 1) == 2
    assert "exists already" in capsys.readouterr().err
    assert call(run_folder, "--num", 2, "--seed", 1, "--overwrite") == 0
    np.save(run_folder.parent / "delta.npy", 0.9 * mock_fit().delta)
    assert call(run_folder, "--num", 1, "--overwrite") == 2
    assert "no longer holds the field" in capsys.readouterr().err


def test_other_voxels_are_warned_of(run_folder, tmp_path, capsys) -> None:
    arguments = ["--field", tmp_path / "delta.npy", "--box_size", 40, "--num", 1]
    assert call(run_folder, *arguments) == 0
    assert "warning: voxels of 5 Mpc/h, the fit had 4" in capsys.readouterr().out


def test_counts_are_no_field_to_draw_on_unless_said(run_folder, tmp_path, capsys) -> None:
    delta = mock_fit().delta
    np.save(tmp_path / "counts.npy", np.round(1000 * (1 + delta)) + 1)
    flags = ["--field", tmp_path / "counts.npy", "--box_size", 32, "--num", 2]
    assert call(run_folder, *flags) == 2
    assert "counts of particles" in capsys.readouterr().err
    assert call(run_folder, *flags, "--field_is", "density") == 0
    np.save(tmp_path / "delta.npy", 1.2 + delta)  # of another mean, and negative here and there
    region = ["--field", tmp_path / "delta.npy", *flags[2:], "--overwrite"]
    assert call(run_folder, *region) == 2
    assert "region" in capsys.readouterr().err
    assert call(run_folder, *region, "--field_is", "region") == 0
