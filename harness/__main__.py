"""`python -m harness` is `permbench`."""

import sys

from harness.cli import main

sys.exit(main())
