"""The network. `build_model(config)` makes it; every module can be built alone from plain numbers."""

from jmceln_core.model.encoders import TextFeatures
from jmceln_core.model.jmceln import JMCELN, ImageFeatures, Prediction, build_model

__all__ = ["JMCELN", "ImageFeatures", "Prediction", "TextFeatures", "build_model"]
