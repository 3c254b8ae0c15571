"""Files for the other side of the socket: each stands alone, with NumPy and Python 3.8 or newer.

They import nothing of this package, so that they work where JAX cannot be installed.
"""
