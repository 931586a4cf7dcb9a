"""`python -m jmceln_ros.demo`: the earlier name of `jmceln_ros.tools.demo`, which keeps working."""

import sys

from jmceln_ros.tools.demo import main

if __name__ == "__main__":
    sys.exit(main())
