"""Anyone's table of runs: file formats, columns and their aliases, budgets."""
