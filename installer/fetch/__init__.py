"""Where unattended answers come from: looks at every source in a fixed order, and says which one won and why."""

from installer.fetch.chain import Fetched, fetch
from installer.fetch.source import Source
from installer.fetch.world import World

__all__ = ["Fetched", "Source", "World", "fetch"]
