"""Models of how halos depend on the density around them."""

from halo_mdn.bias.base import Bias as Bias
from halo_mdn.bias.neural import NeuralBias as NeuralBias
from halo_mdn.bias.overdispersed import OverdispersedBias as OverdispersedBias
from halo_mdn.bias.power_law import TruncatedPowerLaw as TruncatedPowerLaw
