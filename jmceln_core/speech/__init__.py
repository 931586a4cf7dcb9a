"""Spoken commands: sound in, referring expressions out (docs/speech.md)."""
