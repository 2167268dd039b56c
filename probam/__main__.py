"""``python -m probam``: the command line, where the command ``probam`` is not on the path."""

import sys

from probam.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
