"""The no-U-turn sampler, with checkpoints."""
