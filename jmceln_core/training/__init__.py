"""Losses, optimiser groups and schedule, cached features, the loop."""
