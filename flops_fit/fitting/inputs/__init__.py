"""What enters a fit: runs in logs, and which of them are excluded."""
