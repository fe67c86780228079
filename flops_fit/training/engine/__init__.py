"""How a step is computed on this machine: precision, micro-batch, memory, compilation."""
