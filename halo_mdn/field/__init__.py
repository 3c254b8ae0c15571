"""The density field: grid, particles, Fourier modes, cosmology, kernels."""
