"""Errors that a person can act on, and the exit code of each kind."""

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of every `hv` command (documented in docs/troubleshooting.md)."""

    ok = 0
    """Done, and checked."""
    failed = 1
    """Something went wrong that has no code of its own."""
    usage = 2
    """The command line is wrong (argparse's code)."""
    answers = 3
    """The answer file cannot be read or contradicts itself."""
    selection = 4
    """A selector matches no device, or more than it should."""
    unsuitable = 5
    """The machine cannot carry what was asked: too small, no UEFI, too little memory."""
    busy = 6
    """A disk is in use, carries the install medium, or vanished."""
    consent = 7
    """The confirm token is missing or does not fit the plan."""
    lockout = 8
    """Nobody could log in as an administrator."""
    step = 9
    """A step of the installation failed; the journal says where."""
    privilege = 10
    """A right is missing: root, mount, namespaces."""
    record = 11
    """A recorded machine or report cannot be read."""
    nothing = 12
    """Unattended: no source holds answers for this machine, so nothing was done."""
    fetch = 13
    """Unattended: answers cannot be fetched, or are not signed as they must be."""
    again = 14
    """Unattended: this host was installed on this disk before, or begun, and nobody asked for it again."""
    medium = 15
    """An image or stick is no install medium, is damaged, or has no room for what should go into it."""


class HyperError(Exception):
    """Says what happened, why, and what to do next; `hv` prints the three and exits with `code`."""

    def __init__(self, what: str, *, why: str, remedy: str, code: Exit = Exit.failed) -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.remedy = remedy
        self.code = code

    def __str__(self) -> str:
        return "\n".join(
            [
                self.what,
                *paragraph(self.why, "  why: ", " " * 7),
                *paragraph(self.remedy, "  do:  ", " " * 7),
            ]
        )


def paragraph(text: str, first: str, rest: str) -> list[str]:
    """Lines of at most 80 columns, as a serial console has; a line break in the text stays one, and so does
    its indentation. Words, and short pieces in backquotes, are never cut, so that they can be copied.
    """
    import re
    from textwrap import wrap  # only needed when something went wrong

    lines = []
    for number, line in enumerate(text.split("\n")):
        indent = line[: len(line) - len(line.lstrip())]
        whole = re.sub("`[^`]{1,50}`", lambda quoted: quoted[0].replace(" ", "\xa0"), line.lstrip())
        lines += wrap(
            whole,
            80,
            initial_indent=(rest if number else first) + indent,
            subsequent_indent=rest + indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
    return [line.replace("\xa0", " ") for line in lines]
