"""The likelihood, served over a Unix socket to samplers outside this process."""

from __future__ import annotations

from halo_mdn.server.server import LikelihoodServer as LikelihoodServer
