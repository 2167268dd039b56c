"""Numerics of the statistics: Bessel functions, bisection, slice sampling, steady pytrees."""
