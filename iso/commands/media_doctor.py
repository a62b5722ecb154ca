"""`hv media doctor`: every way in which firmware could start an image."""

import argparse
import json

from installer.answers.sizes import format_size
from installer.errors import Exit
from iso.doctor import Diagnosis, diagnose
from iso.image import opened


def doctor(options: argparse.Namespace) -> int:
    """Ends with Exit.medium when something that should boot does not."""
    with opened(options.image) as image:
        found = diagnose(image)
        size = image.size
    if options.json:
        print(json.dumps(_told(found), indent=2))
    else:
        label = f" {found.label}" if found.label else ""
        made_for = f", for {' and '.join(found.processors)}" if found.processors else ""
        print(f"{options.image}: {found.kind}{label}, {format_size(size)}{made_for}")
        for way in found.ways:
            expected = way in found.expected
            word = "boots" if way.boots else "DOES NOT BOOT" if expected else "not for this"
            through = f" through {way.through}" if way.through else ""
            print(f"  {way.firmware:<5} {way.medium:<6} {word}{through}")
            for problem in way.problems if expected else ():
                print(f"    {problem}")
        for problem in found.problems:
            print(f"  WRONG: {problem}")
        for note in found.notes:
            print(f"  note: {note}")
    return Exit.ok if found.healthy else Exit.medium


def _told(found: Diagnosis) -> dict[str, object]:
    return {
        "version": 1,
        "kind": found.kind,
        "label": found.label,
        "processors": found.processors,
        "healthy": found.healthy,
        "ways": [
            {
                "firmware": way.firmware,
                "medium": way.medium,
                "boots": way.boots,
                "expected": way in found.expected,
                "through": way.through or None,
                "problems": way.problems,
            }
            for way in found.ways
        ],
        "problems": found.problems,
        "notes": found.notes,
    }


RUN = {"doctor": doctor}
"""What the verb runs."""
