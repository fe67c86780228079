"""From model sizes and budgets to a sweep; numbers only, no torch."""
