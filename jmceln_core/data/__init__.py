"""Grounding data, read and planned: readers, epochs, the tensors of a step, shards."""

from jmceln_core.extras import require

require("train")
