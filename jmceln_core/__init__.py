"""The network and everything about learning: a picture and a sentence in, the mask of the thing meant out."""

from jmceln_core.segmenter import Segmentation, Segmenter, Status

__all__ = ["Segmentation", "Segmenter", "Status"]
