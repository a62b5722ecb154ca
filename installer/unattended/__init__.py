"""Installing without anybody there: fetch, check, plan, install; and what happens when that fails."""

from installer.unattended.run import Unattended, run

__all__ = ["Unattended", "run"]
