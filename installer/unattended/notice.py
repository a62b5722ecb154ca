"""What stands on the screen when an unattended installation failed: words that a person can pass on. Pure."""

from dataclasses import dataclass

from installer.errors import Exit, HyperError, paragraph

WIDTH = 72


@dataclass(frozen=True)
class Machine:
    """What a person needs to name the machine and to reach it."""

    name: str
    """Vendor and product, or whatever is known."""
    serial: str | None
    """Serial number."""
    addresses: tuple[str, ...]
    """Where it can be reached now."""


def failed(
    error: HyperError, host: str | None, machine: Machine, bundle: str | None, *, wrote: str
) -> list[str]:
    """Lines for the consoles.

    Args:
        error: What happened.
        host: Name of the host to be, when the answers were read.
        machine: Where it happened.
        bundle: Path of the support bundle; none: it could not be written.
        wrote: What was written to disks.
    """
    rule = "=" * WIDTH
    head = "NOT INSTALLED AGAIN" if error.code is Exit.again else "INSTALLATION FAILED"
    lines = ["", rule, f"{head}{f': {host}' if host else ''} (code {error.code:d})", rule]
    lines += [*str(error).splitlines(), ""]
    lines += [*paragraph(wrote, "Disks: ", " " * 7), ""]
    lines += paragraph(
        "This machine stays on and does not start again by itself. Please tell whoever looks after it what stands "
        "above, and:",
        "",
        "",
    )
    lines += paragraph(f"machine: {machine.name}", "  * ", "    ")
    lines += paragraph(f"serial number: {machine.serial or 'none'}", "  * ", "    ")
    addresses = ", ".join(machine.addresses) or "none: the network is down"
    lines += paragraph(f"address: {addresses}", "  * ", "    ")
    if bundle:
        lines += paragraph(f"support bundle: {bundle}", "  * ", "    ")
        if machine.addresses:
            # One line, however long: a command that is broken cannot be typed after.
            lines += ["    From another computer:", f"scp {scp_address(machine.addresses[0], bundle)} ."]
    return [*lines, rule, ""]


def nothing(passed: tuple[str, ...]) -> list[str]:
    """Lines when no source holds answers."""
    lines = ["No answers for an unattended installation were found, and nothing was done:"]
    for each in passed:
        lines += paragraph(each, "  * ", "    ")
    return lines


def scp_address(address: str, path: str) -> str:
    """A file of this machine as scp(1) names it."""
    return f"root@{f'[{address}]' if ':' in address else address}:{path}"
