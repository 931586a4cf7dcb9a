"""The loop with feed, step, validation and resume; losses, optimiser groups and schedule, cached features."""

from jmceln_core.extras import require

require("train")
