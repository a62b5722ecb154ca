"""`hv media host`: a disk image of an installed host, for clouds and VMs."""

import argparse
import json
import sys
from pathlib import Path

from installer.answers.sizes import parse_size
from installer.errors import Exit, HyperError


def host(options: argparse.Namespace) -> int:
    """Make it, or write what its system is built from."""
    from installer.commands.answers import read_answers
    from iso import host_image, host_machine
    from iso.described import described

    try:
        size = parse_size(options.size)
    except ValueError as error:
        raise HyperError(
            f"--size {options.size} is no size",
            why=str(error),
            remedy="write e.g. --size 8GiB; the host grows to its disk's size when it first starts",
            code=Exit.usage,
        ) from None
    answers = read_answers(str(options.answers))
    medium = host_image.with_system(described(options.medium), answers, options.store)
    if options.render:
        from installer.execute.configuration import require_empty_place, write_configuration

        _, rendered = host_image.planned(answers, medium, size, bios=options.bios)
        folder = options.render.absolute()
        require_empty_place(folder, rendered)
        write_configuration(folder, rendered)
        print(f"wrote {', '.join(sorted(rendered.files))} to {options.render}")
        return Exit.ok
    if options.output is None:
        raise HyperError(
            "where the image goes is not said",
            why="neither --output nor --render is there",
            remedy="add --output NAME.raw or NAME.qcow2",
            code=Exit.usage,
        )
    made = host_image.build(
        host_image.Request(
            answers=host_machine.on_it(answers),
            medium=medium,
            size=size,
            store=options.store,
            output=Path(options.output),
            bios=options.bios,
            kind="qcow2" if options.output.suffix == ".qcow2" else "raw",
        ),
        lambda line: print(line, file=sys.stderr, flush=True),
    )
    print(json.dumps(host_image.summary(made), indent=1) if options.json else host_image.words(made))
    return Exit.ok


RUN = {"host": host}
"""What the verb runs."""
