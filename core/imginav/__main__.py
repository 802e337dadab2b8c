"""`python -m imginav`."""

import sys

from imginav.cli import main

sys.exit(main())
