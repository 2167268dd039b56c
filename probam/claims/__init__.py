"""Claims of papers about energies and likelihoods, each checked numerically. See ``docs/claims.md``."""
