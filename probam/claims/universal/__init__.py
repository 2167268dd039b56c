"""Claims about universal Hopfield networks: similarities, separations and their twins."""
