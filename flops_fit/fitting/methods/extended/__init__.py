"""The extended law: Chinchilla's, free to bend as far as the runs say: its form, priors, fit, and answers."""
