"""`python -m zerokernel.cli`."""

import sys

from zerokernel.cli import main

if __name__ == "__main__":
    sys.exit(main())
