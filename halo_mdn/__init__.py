"""Infer how dark-matter halos populate the density field."""

from __future__ import annotations

from halo_mdn.adjoint import Adjoint as Adjoint
from halo_mdn.adjoint import adjoint as adjoint
from halo_mdn.bias import Bias as Bias
from halo_mdn.catalogue import HaloCatalogue as HaloCatalogue
from halo_mdn.errors import InputError as InputError
from halo_mdn.grid import Grid as Grid
from halo_mdn.identified import IdentifiedFunctions as IdentifiedFunctions
from halo_mdn.identified import identified_functions as identified_functions
from halo_mdn.mass_observation import MassObservation as MassObservation
from halo_mdn.network import NeuralBias as NeuralBias
from halo_mdn.overdispersion import OverdispersedBias as OverdispersedBias
from halo_mdn.poisson_process import FixedFieldLikelihood as FixedFieldLikelihood
from halo_mdn.poisson_process import fixed_field_likelihood as fixed_field_likelihood
from halo_mdn.poisson_process import log_expected as log_expected
from halo_mdn.poisson_process import log_intensity as log_intensity
from halo_mdn.poisson_process import log_likelihood as log_likelihood
from halo_mdn.poisson_process import log_prior as log_prior
from halo_mdn.power_law import TruncatedPowerLaw as TruncatedPowerLaw
from halo_mdn.simulation import simulate as simulate

__version__ = "0.1.0"
