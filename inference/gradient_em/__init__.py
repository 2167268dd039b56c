"""EM by gradients, and the warm starts that SVI and NUTS take from optima."""
