"""Sampling: starts, the NUTS driver, coordinates, checkpoints."""

from halo_mdn.sampling.checkpoint import CheckpointError as CheckpointError
from halo_mdn.sampling.convergence import Convergence as Convergence
from halo_mdn.sampling.convergence import convergence as convergence
from halo_mdn.sampling.coordinates import Coordinates as Coordinates
from halo_mdn.sampling.coordinates import StandardisedField as StandardisedField
from halo_mdn.sampling.coordinates import Whitened as Whitened
from halo_mdn.sampling.coordinates import change_coordinates as change_coordinates
from halo_mdn.sampling.coordinates import coordinates_at as coordinates_at
from halo_mdn.sampling.initialisation import agrees_with as agrees_with
from halo_mdn.sampling.initialisation import find_start as find_start
from halo_mdn.sampling.initialisation import modes_of_chains as modes_of_chains
from halo_mdn.sampling.initialisation import typical_points as typical_points
from halo_mdn.sampling.modes import Modes as Modes
from halo_mdn.sampling.modes import modes_of as modes_of
from halo_mdn.sampling.natural import coordinates_for as coordinates_for
from halo_mdn.sampling.nuts import run_nuts as run_nuts
from halo_mdn.sampling.nuts import stored_start as stored_start
from halo_mdn.sampling.program import Program as Program
from halo_mdn.sampling.settings import Draws as Draws
from halo_mdn.sampling.settings import Interrupted as Interrupted
from halo_mdn.sampling.settings import NutsSettings as NutsSettings
from halo_mdn.sampling.settings import Progress as Progress
from halo_mdn.sampling.start import Start as Start
from halo_mdn.sampling.start import StartError as StartError
from halo_mdn.sampling.summits import LogPosterior as LogPosterior
