"""`python -m heatproof` and the command `heatproof`."""

import os
import sys

# Threads of torch that wait at a barrier spin by default; beside another busy process that made an epoch 30 times as
# long on two cores. Passive waiting costs about a fifth on a quiet machine. Read when torch is loaded, so set here.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from heatproof.cli import main

if __name__ == "__main__":
    sys.exit(main())
