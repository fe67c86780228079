"""How sure is a fitted number: resamples, the spread they give, and what the methods' disagreement adds."""
