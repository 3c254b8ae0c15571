"""Sampling: starts, the NUTS driver, coordinates, checkpoints."""

from halo_mdn.progress import Progress as Progress
from halo_mdn.sampling.after_run import agrees_with as agrees_with
from halo_mdn.sampling.after_run import modes_of_chains as modes_of_chains
from halo_mdn.sampling.coordinates.bijections import Coordinates as Coordinates
from halo_mdn.sampling.coordinates.bijections import StandardisedField as StandardisedField
from halo_mdn.sampling.coordinates.bijections import Whitened as Whitened
from halo_mdn.sampling.coordinates.bijections import change_coordinates as change_coordinates
from halo_mdn.sampling.coordinates.bijections import coordinates_at as coordinates_at
from halo_mdn.sampling.coordinates.choice import coordinates_for as coordinates_for
from halo_mdn.sampling.nuts.checkpoint import CheckpointError as CheckpointError
from halo_mdn.sampling.nuts.convergence import Convergence as Convergence
from halo_mdn.sampling.nuts.convergence import convergence as convergence
from halo_mdn.sampling.nuts.draws import Draws as Draws
from halo_mdn.sampling.nuts.draws import Interrupted as Interrupted
from halo_mdn.sampling.nuts.driver import run_nuts as run_nuts
from halo_mdn.sampling.nuts.driver import stored_start as stored_start
from halo_mdn.sampling.nuts.program import Program as Program
from halo_mdn.sampling.nuts.settings import NutsSettings as NutsSettings
from halo_mdn.sampling.start.found import Start as Start
from halo_mdn.sampling.start.found import StartError as StartError
from halo_mdn.sampling.start.modes import Modes as Modes
from halo_mdn.sampling.start.modes import modes_of as modes_of
from halo_mdn.sampling.start.target import LogPosterior as LogPosterior
from halo_mdn.sampling.start.tournament import find_start as find_start
from halo_mdn.sampling.start.tournament import typical_points as typical_points
