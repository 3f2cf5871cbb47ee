"""``python -m fidfast``: the command line."""

import sys

from fidfast._cli.commands import main

if __name__ == "__main__":
    sys.exit(main())
