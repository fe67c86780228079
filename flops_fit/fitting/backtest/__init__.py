"""Backtests: hide the largest budgets, predict them, score the error."""
