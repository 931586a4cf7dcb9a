"""`python -m jmceln_core.speech.measure`: the earlier name of `jmceln_core.speech.bench.measure`; it keeps working."""

import sys

from jmceln_core.speech.bench.measure import main

if __name__ == "__main__":
    sys.exit(main())
