"""Backtests: hold out the largest budgets, predict them, score the error."""
