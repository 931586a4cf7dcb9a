"""jmceln_ros: the robot's side of jmceln, ROS 2 nodes and the messages they publish."""

from pkgutil import extend_path

# `jmceln_ros.msg` is made from msg/*.msg by colcon, in the installation. In a checkout (or after `pip install`) it lies
# in another folder than these modules: with the path extended, both are one package.
__path__ = extend_path(__path__, __name__)
