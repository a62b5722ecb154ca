#!/usr/bin/python3
"""One program, from the folder that this launcher lies in."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])
sys.dont_write_bytecode = True

from hv.cli import main  # noqa: E402

sys.exit(main())
