"""Numerics of the statistics: Bessel and Gamma functions, bisection, slice sampling, pytrees of distributions."""
