"""The training engine: one loop, exact in what it spends."""
