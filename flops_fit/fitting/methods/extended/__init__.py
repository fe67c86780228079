"""The extended law: Chinchilla's, free to bend as far as the runs support: its form, priors, fit, and predictions."""
