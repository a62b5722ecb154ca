"""`hv media adopt`: a stock NixOS image becomes a medium that answers can be put into."""

import argparse
from pathlib import Path

from installer.errors import Exit, HyperError
from iso.adopt import Payload, adopt
from iso.doctor import diagnose
from iso.image import opened


def adopt_image(options: argparse.Namespace) -> int:
    """Adopt it."""
    target = Path(options.output)
    if bool(options.payload) != bool(options.start):
        raise HyperError(
            "a payload and what it starts go together",
            why="only one of --payload and --start was named",
            remedy="name both, or none",
            code=Exit.usage,
        )
    adopt(options.image, target, Payload(options.payload, options.start) if options.payload else None)
    with opened(target) as image:
        found = diagnose(image)
    print(f"{target}: {found.label}, with a place for answers and kernel arguments")
    for way in found.expected:
        print(f"  {way.firmware:<5} {way.medium:<6} {'boots' if way.boots else '; '.join(way.problems)}")
    if not options.payload:
        print(
            "  The stock live system does nothing with answers by itself: add a payload that does (--payload)."
        )
    print("  That releases of NixOS start it was not proved by booting them.")
    return Exit.ok if found.healthy else Exit.medium


RUN = {"adopt": adopt_image}
"""What the verb runs."""
