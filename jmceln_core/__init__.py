"""jmceln_core: referring image segmentation (JMCELN); no ROS needed."""
