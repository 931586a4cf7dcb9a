"""Sentences made by rules."""
