"""Launcher files of flops-fit, found by `flops_fit.launching`."""
