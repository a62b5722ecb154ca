"""One `hv rescue` on a rig: `python -m tests.execute.rescue_child FOLDER VERB…`."""

import sys
from pathlib import Path

from hv.commands.rescue import World, main
from installer.errors import HyperError
from installer.facts import Facts
from tests.execute.rig import Rig


def run() -> int:
    """With the rig's folders and machine."""
    folder = Path(sys.argv[1])
    facts = folder / "facts.json"
    try:
        return main(
            sys.argv[2:],
            World(
                live=lambda: Rig(folder, "").live,
                probe=lambda: Facts.model_validate_json(facts.read_bytes()),
            ),
        )
    except HyperError as error:
        print(f"{error.what}\n  why: {error.why}\n  do:  {error.remedy}", file=sys.stderr)
        return error.code


if __name__ == "__main__":
    sys.exit(run())
