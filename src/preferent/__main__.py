"""`python -m preferent`, which is also how `accelerate launch -m preferent` starts it."""

import sys

from preferent.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
