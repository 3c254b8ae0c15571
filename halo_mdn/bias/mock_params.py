"""Bias parameters that give mock catalogues a realistic mass function."""

from __future__ import annotations

# The most probable parameters of the default model given the halos of the bundled N-body box
# (friends of friends, b = 0.2, 38,747 halos above 2e12 Msun/h, z = 0) and the density that
# halo_mdn.field.lpt makes of its initial conditions: 2LPT of the modes of 64^3, supersampling 2,
# voxels of 250/64 Mpc/h. Best of four L-BFGS climbs (-ln posterior 1392531; the others ended 40 to
# 63 higher), rounded to four decimals. In the order of NeuralBias.block_shapes. They describe that
# voxel size, redshift and cosmology; elsewhere they are a made-up bias, good for tests alone.
MOCK_PARAMS: tuple[float, ...] = (
    *(0.5927, -0.0227, -0.0147, -0.0008),  # kernel weights: centre, face, edge, corner
    2.0993,  # kernel bias
    *(0.3632, 0.9738),  # amplitude kernels
    *(2.5362, -0.7038),  # amplitude biases
    *(1.0937, 1.1103),  # mean kernels
    *(-4.7817, -1.1772),  # mean biases
    *(0.3426, 1.1716),  # width kernels
    *(-7.6344, -9.4900),  # width biases
)
