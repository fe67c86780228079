"""Planning: from model sizes and budgets to a sweep, in numbers only, without torch."""
