"""Rendered tabletop scenes: catalogue and shapes (things), scene (placing), renderer (pictures), sentences (words).

`python -m jmceln_core.synthesis.render` is the command; docs/rendering.md the manual. Only `renderer` imports VTK.
"""
