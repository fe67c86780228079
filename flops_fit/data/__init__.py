"""Numbered samples: packed token files, data sets of users, built-in corpora."""
