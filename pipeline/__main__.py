"""`python -m pipeline` is `reflexarc`."""

import sys

from pipeline.cli import main

sys.exit(main())
