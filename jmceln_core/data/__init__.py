"""Grounding data: readers, rule-made expressions, datasets."""
