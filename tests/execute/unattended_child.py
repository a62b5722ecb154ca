"""One unattended installer process on a rig: `python -m tests.execute.unattended_child FOLDER [--again]`."""

import argparse
import sys
from pathlib import Path

from installer.errors import HyperError
from installer.execute.runner import Runner
from installer.facts import Facts
from installer.fetch import World
from installer.medium import Medium
from installer.probe.root import LiveRoot
from installer.unattended import Unattended, run
from tests.execute.rig import Rig


def main() -> int:
    """Install, with everything outside the disk below the rig's folder."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--again", action="store_true")
    options = parser.parse_args()
    folder: Path = options.folder
    root = LiveRoot(str(folder / "root"))

    def world(runner: Runner) -> World:
        return World(
            runner,
            root,
            live=folder / "live",
            mounts=folder / "mounts",
            patience=5.0,
            network_patience=0.0,
            proxies={},
        )

    try:
        return run(
            Unattended(
                medium=lambda: Medium.model_validate_json((folder / "medium.json").read_bytes()),
                probe=lambda: Facts.model_validate_json((folder / "facts.json").read_bytes()),
                output=sys.stdout,
                again=options.again,
                folder=folder / "unattended",
                live=Rig(folder, "").live,
                root=root,
                world=world,
            )
        )
    except HyperError as error:
        print(error, file=sys.stderr)
        return error.code


if __name__ == "__main__":
    sys.exit(main())
