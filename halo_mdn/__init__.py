"""Infer how dark-matter halos populate the density field."""

from __future__ import annotations

from halo_mdn.bias.base import Bias as Bias
from halo_mdn.bias.neural import NeuralBias as NeuralBias
from halo_mdn.bias.normal_prior import log_prior as log_prior
from halo_mdn.bias.overdispersed import OverdispersedBias as OverdispersedBias
from halo_mdn.bias.power_law import TruncatedPowerLaw as TruncatedPowerLaw
from halo_mdn.errors import InputError as InputError
from halo_mdn.field.grid import Grid as Grid
from halo_mdn.halos.catalogue import HaloCatalogue as HaloCatalogue
from halo_mdn.halos.mass_observation import MassObservation as MassObservation
from halo_mdn.halos.placed import PlacedHalos as PlacedHalos
from halo_mdn.halos.placed import place_halos as place_halos
from halo_mdn.likelihood.adjoint import Adjoint as Adjoint
from halo_mdn.likelihood.adjoint import adjoint as adjoint
from halo_mdn.likelihood.fixed_field import FixedFieldLikelihood as FixedFieldLikelihood
from halo_mdn.likelihood.fixed_field import fixed_field_likelihood as fixed_field_likelihood
from halo_mdn.likelihood.fixed_field import log_likelihood as log_likelihood
from halo_mdn.likelihood.intensity import log_expected as log_expected
from halo_mdn.likelihood.intensity import log_intensity as log_intensity
from halo_mdn.mocks.simulation import simulate as simulate
from halo_mdn.predictions.identified import IdentifiedFunctions as IdentifiedFunctions
from halo_mdn.predictions.identified import identified_functions as identified_functions
from halo_mdn.version import __version__ as __version__
