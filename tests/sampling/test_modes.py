"""Several modes: told apart, weighed, given chains, and reported."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from jax.tree_util import Partial

import halo_mdn as hm
from halo_mdn.halos.mass_function import log_density
from halo_mdn.posterior.mode_report import ModeFindings, mode_findings, record_modes
from halo_mdn.posterior.verdict import verdict
from halo_mdn.sampling import LogPosterior, Modes, Start
from halo_mdn.sampling.start.mirror import mirrored
from halo_mdn.sampling.start.modes import (
    axis_excess,
    modes_of,
    nearest_mode,
    same_function,
    shared_chains,
)
from halo_mdn.sampling.start.newton import climb
from tests.posterior.test_verdict import ROW, RUN
from tests.run_for_tests import TRUTH, mock_fit

WEIGHT = 0.8  # of the narrow one of two Gaussians
CENTRE = np.array([[2.0, 0.0], [-2.0, 1.0]])
COVARIANCE = np.array([[[0.04, 0.0], [0.0, 0.09]], [[0.5, 0.2], [0.2, 0.25]]])


def two_gaussians(centre, covariance, x):
    """A normalised density: its log-masses are ln 0.8 and ln 0.2."""
    offset = x[None] - centre
    square = jnp.einsum("ki,kij,kj->k", offset, jnp.linalg.inv(covariance), offset)
    log_det = jnp.linalg.slogdet(2 * jnp.pi * covariance)[1]
    log_weight = jnp.log(jnp.array([WEIGHT, 1 - WEIGHT]))
    return jax.nn.logsumexp(log_weight - 0.5 * (square + log_det))


DENSITY = Partial(two_gaussians, jnp.asarray(CENTRE), jnp.asarray(COVARIANCE))


@pytest.fixture(scope="module")
def modes() -> Modes:
    begins = np.array([[1.5, 0.4], [-3.0, 0.5], [2.4, -0.3], [-1.0, 1.5]])
    return modes_of(DENSITY, [climb(DENSITY, begin, tolerance=1e-8) for begin in begins])


def test_two_gaussians_have_their_masses(modes: Modes) -> None:
    assert modes.num == 2 and not modes.doubtful.any()
    np.testing.assert_allclose(modes.params, CENTRE, atol=1e-3)
    # The narrow one is the lower integral of neither: heights alone would say 0.97 to 0.03.
    np.testing.assert_allclose(modes.weight, [WEIGHT, 1 - WEIGHT], atol=2e-3)
    np.testing.assert_allclose(np.exp(modes.log_mass), [WEIGHT, 1 - WEIGHT], atol=2e-3)


def test_draws_are_told_apart(modes: Modes) -> None:
    random = np.random.default_rng(0)
    for k in range(2):
        draws = random.multivariate_normal(CENTRE[k], COVARIANCE[k], size=(2, 500))
        labels = nearest_mode(modes, draws)
        assert labels.shape == (2, 500)
        assert np.mean(labels == k) > 0.99  # four units apart, of widths 0.2 and 0.7


def crooked(x):
    """A ridge along a parabola: one mode, not Gaussian."""
    return -0.5 * x[0] ** 2 - 0.5 * ((x[1] - 2 * x[0] ** 2) / 0.05) ** 2


def test_a_crooked_mode_is_doubtful_and_a_gaussian_is_not() -> None:
    summit = climb(Partial(crooked), np.array([0.3, 0.4]), tolerance=1e-8)
    assert modes_of(Partial(crooked), [summit]).doubtful[0]
    alone = Partial(two_gaussians, jnp.asarray(CENTRE[[0, 0]]), jnp.asarray(COVARIANCE[[0, 0]]))
    summit = climb(alone, CENTRE[0] + 0.1, tolerance=1e-8)
    assert axis_excess(alone, summit) == pytest.approx(0, abs=1e-3)


class Straightened(NamedTuple):
    """Coordinates in which that ridge is straight."""

    def to_params(self, latent):
        return jnp.stack([latent[0], latent[1] + 2 * latent[0] ** 2])

    def to_latent(self, params):
        return jnp.stack([params[0], params[1] - 2 * params[0] ** 2])

    def log_det(self, latent):
        return 0.0 * latent[0]


def test_coordinates_decide_what_is_straight() -> None:
    density, begins = Partial(crooked), np.array([[0.3, 0.4], [1.5, 4.5], [-1.5, 4.5]])
    top, *short = [climb(density, b, max_steps=n) for b, n in zip(begins, (50, 0, 0), strict=True)]
    # The Hessian is one of differences, and the ridge is narrow: good to a tenth of a nat.
    assert abs(axis_excess(density, top, Straightened())) < 0.2 < 1 < abs(axis_excess(density, top))
    assert not modes_of(density, [top], Straightened()).doubtful[0]
    # The straight line between the two sides leaves the ridge; along the ridge they are one.
    assert modes_of(density, short).num == 2
    assert modes_of(density, [top, *short], Straightened()).num == 1


def test_a_climb_that_stopped_short_is_no_mode_of_its_own() -> None:
    top = climb(DENSITY, CENTRE[1] + 0.3, tolerance=1e-8)
    short = climb(DENSITY, CENTRE[1] + 0.3, max_steps=0)
    both = modes_of(DENSITY, [short, top])
    assert both.num == 1
    np.testing.assert_array_equal(both.params[0], top.params)
    assert modes_of(DENSITY, [short]).doubtful[0]


@pytest.mark.parametrize(
    ("weight", "num_chains", "wanted"),
    [
        ([1.0], 3, [0, 0, 0]),
        ([0.97, 0.03], 4, [0, 0, 0, 1]),
        ([0.995, 0.005], 4, [0, 0, 0, 0]),
        ([0.5, 0.5], 4, [0, 0, 1, 1]),
        ([0.6, 0.3, 0.1], 2, [0, 1]),
        ([0.7, 0.3], 1, [0]),
    ],
)
def test_every_mode_that_matters_gets_a_chain(weight, num_chains, wanted) -> None:
    np.testing.assert_array_equal(shared_chains(np.array(weight), num_chains), wanted)


def test_modes_survive_a_checkpoint(modes: Modes) -> None:
    start = Start(CENTRE, CENTRE[0], COVARIANCE[0], np.zeros(2), "found", modes)
    again = Start.from_arrays(start.arrays())
    assert again.modes is not None
    for name, array in modes.arrays().items():
        np.testing.assert_array_equal(again.modes.arrays()[name], array)
    assert Start.from_arrays(replace(start, modes=None).arrays()).modes is None


# On a field


def test_the_mirror_image_of_a_gentle_kernel_is_the_same_function() -> None:
    """With a kernel of one part in ten the softplus is straight, and the image is nearly exact."""
    fit, params = mock_fit(), TRUTH.copy()
    params[:4] *= 0.1
    image = mirrored(fit.bias, params, fit.log_l.features)
    np.testing.assert_allclose(image[:4], -params[:4])
    np.testing.assert_allclose(np.sign(image[5:7]), -np.sign(params[5:7]))
    flipped = np.where(np.arange(17) < 4, -params, params)
    there, mirror, wrong = (
        log_n(fit.bias, p, fit.log_l.features) for p in (params, image, flipped)
    )
    apart = np.abs(mirror - there).max()
    assert apart < 0.05  # in ln n, over all voxels
    assert apart < 0.1 * np.abs(wrong - there).max()


def log_n(bias, params, features):
    mixture = bias.mass_function(jnp.asarray(params), features)
    return log_density(mixture, jnp.log(bias.mass_threshold) + 1.0)


def test_flipped_quadrupoles_are_one_function_and_two_modes() -> None:
    """A kernel of l = 2 enters by its square, so that its sign is a symmetry of the posterior."""
    fit, bias = mock_fit(), hm.NeuralBias(multipoles=(0, 2), components=1)
    log_l = hm.fixed_field_likelihood(bias, fit.delta, fit.halos)
    posterior = LogPosterior(log_l, 1.0, bias)
    random = np.random.default_rng(1)
    blocks = {name: 0.5 * random.normal(size=shape) for name, shape in bias.block_shapes.items()}
    blocks["width_biases"] -= 6.5
    params = np.asarray(bias.pack(blocks))
    labels = [str(label) for label in bias.coords["kernel_weight"]]
    sign = np.ones(bias.num_params)
    sign[: len(labels)][[label.startswith("l=2") for label in labels]] = -1
    pair = np.stack([params, sign * params])
    heights = np.array([float(posterior(p)) for p in pair])
    assert heights[1] == pytest.approx(heights[0], rel=1e-12)
    curvature = np.tile(-1e4 * np.eye(bias.num_params), (2, 1, 1))
    modes = Modes(pair, heights, curvature, np.zeros(2, bool))
    functions = partial(log_n, bias, features=log_l.features[:, :20])
    np.testing.assert_array_equal(same_function(modes, functions), [0, 0])
    other = modes.params.copy()
    other[1, -1] += 1.0  # wider: another mass function
    np.testing.assert_array_equal(same_function(replace(modes, params=other), functions), [0, 1])


# In the container and the verdict


def container(labels: np.ndarray) -> xr.DataTree:
    groups = {
        "/constant_data": xr.Dataset(),
        "/sample_stats": xr.Dataset({"lp": (("chain", "draw"), np.zeros(labels.shape))}),
    }
    return xr.DataTree.from_dict(groups)


def findings_of(modes: Modes, labels: np.ndarray, same: bool = False) -> ModeFindings:
    draws = modes.params[labels]
    functions = (lambda x: 0 * x[:1]) if same else (lambda x: x)
    found = mode_findings(record_modes(container(labels), modes, draws, functions))
    assert found is not None
    return found


def test_a_mode_without_a_chain_is_named(modes: Modes) -> None:
    found = findings_of(modes, np.zeros((4, 100), int))
    assert found.missing == pytest.approx(0.2, abs=2e-3)
    judged = verdict((ROW,), RUN, modes=found)
    assert judged.grade == "do not use" and "1 of 2 modes, with 20 %" in judged.sentence
    assert "num_chains" in judged.advice[0]
    rough = replace(found, doubtful=np.array([False, True]))
    assert verdict((ROW,), RUN, modes=rough).grade == "use with care"
    light = replace(found, weight=np.array([0.97, 0.03]))
    assert verdict((ROW,), RUN, modes=light).grade == "use with care"
    assert verdict((ROW,), RUN, modes=replace(found, weight=np.array([0.995, 0.005]))).ok
    assert "no chain" in "".join(found.lines())


def test_a_mode_of_the_same_functions_needs_no_chain(modes: Modes) -> None:
    found = findings_of(modes, np.zeros((4, 100), int), same=True)
    assert found.missing == 0 and verdict((ROW,), RUN, modes=found).ok
    assert "same functions as mode 0" in "".join(found.lines())


def test_chains_that_stay_in_their_modes_are_not_trusted(modes: Modes) -> None:
    apart = np.repeat([[0], [0], [0], [1]], 100, axis=1)
    found = findings_of(modes, apart)
    assert found.moves == 0 and found.unmixed
    judged = verdict((ROW,), RUN, modes=found)
    assert not judged.ok and "moved between them 0 times" in judged.sentence
    assert "mode 1: 0.25 of the draws, weight 0.2" in judged.advice[0]
    faint = replace(found, weight=np.array([1 - 1e-9, 1e-9]))
    assert "chain 3 lie" in verdict((ROW,), RUN, modes=faint).advice[0]
    stray = np.zeros((4, 1000), int)
    stray[2, 7] = 1  # one draw in a tail is no visit
    assert not findings_of(modes, stray).unmixed
    mixed = findings_of(modes, np.random.default_rng(0).integers(2, size=(4, 100)))
    assert mixed.moves > 150 and verdict((ROW,), RUN, modes=mixed).ok


def test_a_container_without_modes_says_nothing() -> None:
    assert mode_findings(container(np.zeros((2, 3), int))) is None
