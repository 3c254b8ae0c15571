"""The NUTS driver: chains, checkpoints, convergence."""
