"""`python -m jmceln_core.data.compose`: the earlier name of `jmceln_core.synthesis.compose`, which keeps working."""

import sys

from jmceln_core.synthesis.compose import main

if __name__ == "__main__":
    sys.exit(main())
