"""`python -m harness` is `permbench`."""

import sys

from harness.cli.main import main

sys.exit(main())
