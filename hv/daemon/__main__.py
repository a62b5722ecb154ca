"""`python -m hv.daemon`."""

import sys

from hv.daemon.run import main

sys.exit(main())
