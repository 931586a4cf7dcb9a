"""`python -m jmceln_core.data.render`: the earlier name of `jmceln_core.synthesis.render`, which keeps working."""

import sys

from jmceln_core.synthesis.render import main

if __name__ == "__main__":
    sys.exit(main())
