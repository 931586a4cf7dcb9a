"""`python -m jmceln_ros.benchmark`: the earlier name of `jmceln_ros.tools.benchmark`, which keeps working."""

import sys

from jmceln_ros.tools.benchmark import main

if __name__ == "__main__":
    sys.exit(main())
