"""Several runs at a time on one machine: worker processes and who trains what."""
