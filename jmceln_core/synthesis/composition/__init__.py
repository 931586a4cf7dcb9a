"""New pictures from real ones: cutting (what is cut out), backdrops (what it is put into), pasting (where, and what
then hides what), saying (which sentences are true of the result).

`python -m jmceln_core.synthesis.compose` is the command; docs/composition.md the manual.
"""
