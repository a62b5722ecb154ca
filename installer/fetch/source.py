"""Sources of answers, in the order in which they are asked; and what the kernel's arguments say about it. Pure."""

import re
import shlex
from dataclasses import dataclass
from enum import StrEnum

from installer.errors import Exit, HyperError
from installer.web import Place

LABEL = "HYPERNIXCFG"
"""File system label of a medium with answers, in any case: FAT writes it in capitals, eleven at most."""
NAMES = ("answers.toml", "answers.json", "answers.tar", "answers.url")
"""What the file is called in the root of such a medium, in any case."""
FW_CFG = "opt/hyper-nixos/answers"
"""Name of QEMU's fw_cfg item (docs/specs/fw_cfg.rst: users' own items are below `opt/`)."""
CREDENTIAL = "hyper-nixos.answers"
"""Name of the systemd credential, which PID 1 takes from SMBIOS type 11, fw_cfg or the kernel command line."""
DHCP_OPTION = 224
"""The first option for private use (RFC 3942)."""
DNS_NAME = "_hyper-nixos"
"""Below each search domain."""


class Source(StrEnum):
    """Who can hold answers, in the order in which they are asked."""

    argument = "kernel argument"
    """`hv.answers=URL`."""
    medium = "labelled medium"
    """A disk, stick or CD with the label."""
    embedded = "live medium"
    """What was embedded into the medium that this system runs from."""
    machine = "virtual machine"
    """QEMU's fw_cfg, a systemd credential, an SMBIOS string."""
    dhcp = "DHCP option"
    """Option 224 of a lease."""
    dns = "DNS record"
    """TXT record `_hyper-nixos` of a search domain."""

    @property
    def from_network(self) -> bool:
        """Whether anybody on the same network can pretend to be it."""
        return self in (Source.dhcp, Source.dns)


@dataclass(frozen=True)
class Found:
    """Something that a source holds."""

    source: Source
    """Who."""
    where: str
    """Where exactly, for people."""
    content: bytes
    """Answers, an archive, or a URL."""
    secrets: tuple[tuple[str, bytes], ...] = ()
    """Files that came beside it, by name."""


@dataclass(frozen=True)
class Passed:
    """A source that was asked before the one that won, and why it did not."""

    source: Source
    """Who."""
    why: str
    """For people."""

    def __str__(self) -> str:
        return f"{self.source}: {self.why}"


@dataclass(frozen=True)
class Arguments:
    """What the kernel's command line says to an unattended installation."""

    answers: str | None = None
    """`hv.answers=URL`."""
    wanted: bool | None = None
    """`hv.unattended`: asked for; `hv.unattended=no`: refused; none: not said."""
    again: bool = False
    """`hv.unattended=again`: also on a disk where this host was installed before."""
    proxy: str | None = None
    """`hv.proxy=URL`."""

    @classmethod
    def parse(cls, line: str) -> "Arguments":
        """Read `/proc/cmdline`; the last one of a kind counts, as the kernel has it.

        Raises:
            HyperError: `hv.unattended` has a value that nobody knows (Exit.fetch).
        """
        values: dict[str, str | None] = {}
        for word in _words(line):
            name, equals, value = word.partition("=")
            if name in ("hv.answers", "hv.unattended", "hv.proxy"):
                values[name] = value if equals else None
        wanted: bool | None = None
        if "hv.unattended" in values:
            word = (values["hv.unattended"] or "yes").lower()
            if word not in ("yes", "1", "no", "0", "again"):
                raise HyperError(
                    f"the kernel argument hv.unattended={word[:40]} is not understood",
                    why="it takes `yes`, `no` or `again`",
                    remedy="correct it in the boot menu",
                    code=Exit.fetch,
                )
            wanted = word not in ("no", "0")
        return cls(
            answers=values.get("hv.answers") or None,
            wanted=wanted,
            again=(values.get("hv.unattended") or "").lower() == "again",
            proxy=values.get("hv.proxy") or None,
        )


def _words(line: str) -> list[str]:
    """Arguments, with the kernel's double quotes taken away; what is not closed is taken as it stands."""
    lexer = shlex.shlex(line, posix=True)
    lexer.whitespace_split, lexer.commenters, lexer.quotes, lexer.escape = True, "", '"', ""
    try:
        return list(lexer)
    except ValueError:
        return line.split()


def place_in(content: bytes) -> Place | None:
    """The URL, where content is one line that is a URL; none: it is answers. Raises HyperError for a bad one."""
    text = content.strip()
    if len(text) > 4096 or not re.match(rb"https?://\S+\Z", text):
        return None
    return Place.parse(text.decode("ascii", "replace"))


def dns_names(domains: tuple[str, ...]) -> tuple[str, ...]:
    """Names to ask for, in the order of the search domains; a bare top-level domain is nobody's own."""
    cleaned = (domain.strip(".").lower() for domain in domains)
    return tuple(dict.fromkeys(f"{DNS_NAME}.{domain}." for domain in cleaned if "." in domain))


def why_not_asked(source: Source, arguments: Arguments, *, has_signers: bool) -> str | None:
    """Why a source must not be asked at all; none: it may.

    Whoever answers first on a network could name answers that destroy a disk. So the network is asked only when
    whoever started the machine said so, or when answers must be signed anyway.
    """
    if source.from_network and not (arguments.wanted or has_signers):
        return "not asked: the network is, with the kernel argument hv.unattended or embedded signers"
    return None


def why_not_trusted(place: Place, *, has_signers: bool) -> str | None:
    """Why what comes from there could be anybody's; none: it is protected."""
    if place.url.startswith("https:") or place.sha256 or has_signers:
        return None
    return "http protects nothing: use https, name the file's sha256, or embed signers"
