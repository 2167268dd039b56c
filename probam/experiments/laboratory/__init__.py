"""Small transformers whose attention is a parameter: layers, tasks, training, and what is read from trained heads."""
