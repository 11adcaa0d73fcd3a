"""Sweeps: the folder that the same command finds again, and the jobs in it."""
