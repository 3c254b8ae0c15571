"""Halos: mass functions, how masses are observed, catalogues on a grid."""
