"""The parametric fit of L(N, D) = E + A/N^alpha + B/D^beta: global search and exact refinement."""
