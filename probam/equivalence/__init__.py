"""The physical twin of a fitted mixture, and the checks that its energy is the negative log density."""
