"""Grounding data, read and planned: readers, epochs, the tensors of a step, shards."""
