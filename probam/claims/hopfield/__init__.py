"""Claims about binary, dense and two-layer networks."""
