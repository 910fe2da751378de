"""`python -m heatproof` and the command `heatproof`."""

import sys

from heatproof.cli import main

if __name__ == "__main__":
    sys.exit(main())
