"""What a run fits, prepared once: likelihood, environments and identified functions."""

from __future__ import annotations

from dataclasses import dataclass

from jax.typing import ArrayLike

from halo_mdn.bias.base import Bias
from halo_mdn.halos.catalogue import HaloCatalogue
from halo_mdn.likelihood.fixed_field import FixedFieldLikelihood, fixed_field_likelihood
from halo_mdn.predictions.environments import Environments, environments
from halo_mdn.predictions.identified import IdentifiedFunctions, functions_of


@dataclass(frozen=True)
class FittedData:
    """A density field and its halos, with all that is made of them for a model.

    Attributes
    ----------
    delta : array (N0, N1, N2)
        Overdensity.
    halos : HaloCatalogue
    log_likelihood : FixedFieldLikelihood
        The exact one.
    classes : Environments
        Of the voxels of the domain.
    functions : IdentifiedFunctions
        What a sampler monitors and a report shows.
    """

    delta: ArrayLike
    halos: HaloCatalogue
    log_likelihood: FixedFieldLikelihood
    classes: Environments
    functions: IdentifiedFunctions

    @classmethod
    def of(
        cls,
        bias: Bias,
        delta: ArrayLike,
        halos: HaloCatalogue,
        num_environments: int = 6,
        num_masses: int = 6,
    ) -> FittedData:
        """Prepare a field and its halos for a model.

        Raises
        ------
        InputError
            If the field is unusable, the thresholds of model and catalogue differ, or the numbers
            of environments and masses do not fit the field.
        """
        log_l = fixed_field_likelihood(bias, delta, halos)
        classes = environments(bias, delta, halos.grid, num_environments, features=log_l.features)
        return cls(delta, halos, log_l, classes, functions_of(log_l, classes, num_masses))
