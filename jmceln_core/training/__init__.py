"""The loop with feed, step, validation and resume; losses, optimiser groups and schedule, cached features."""
