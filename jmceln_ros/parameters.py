"""`python -m jmceln_ros.parameters`: the earlier name of `jmceln_ros.tools.parameters`, which keeps working."""

from jmceln_ros.tools.parameters import main

if __name__ == "__main__":
    main()
