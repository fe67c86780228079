"""Uncertainty of fitted numbers: resamples, the spread they give, and what the methods' disagreement adds."""
