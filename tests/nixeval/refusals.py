"""What our modules refuse: for each of their assertions, a module that makes it fail on the example host.

An assertion that is not here fails tests/test_nix_refusals.py. To add one: some words of its message that no other has,
and a module of a host that is to be refused.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tree_sitter import Node

from tests.nixeval.nix import REPOSITORY
from tests.nixeval.reader import PARSER

DEVICES = '{ "0000:01:00.0" = { vendor = "10de"; device = "2204"; }; }'
HARDENED = 'hypervisor.phase = "hardened";'


@dataclass(frozen=True)
class Refusal:
    """A host that is refused."""

    words: str
    """What no other message says, without parts that are computed."""
    module: str
    """Nix: what is wrong with the host."""
    system: str = "x86_64-linux"


REFUSALS = (
    # core
    Refusal(
        "Nobody could log in as an administrator",
        """{ lib, ... }: {
          users.users.alice.openssh.authorizedKeys.keys = lib.mkForce [ ];
          users.users.alice.hashedPassword = "!$6$locked";
        }""",
    ),
    Refusal("and it needs the feature", "{ hypervisor.features.docker-command.enable = true; }"),
    Refusal(
        "are both true, and they conflict",
        "{ hypervisor.features = { page-sharing.enable = true; memory-encryption.enable = true; }; }",
    ),
    Refusal(
        "is true, and the feature is for",
        "{ hypervisor.features.nested-virtualization.enable = true; }",
        "aarch64-linux",
    ),
    Refusal("which takes no feature above the risk", '{ hypervisor.riskTolerance = "paranoid"; }'),
    Refusal(
        "points together, and those that are on have",
        f"""{{ hypervisor = {{
          tier = "enterprise";
          features = {{ nested-virtualization.enable = true; foreign-architectures.enable = true; }};
          passthrough.devices = {DEVICES};
        }}; }}""",
    ),
    Refusal(
        "hypervisor.virtualization.hugepages reserves pages",
        """{ hypervisor = { features.hugepages.enable = false; virtualization.hugepages."2M" = 1; }; }""",
    ),
    Refusal(
        "hypervisor.passthrough keeps devices for guests",
        f"{{ hypervisor = {{ features.passthrough.enable = false; passthrough.devices = {DEVICES}; }}; }}",
    ),
    # degraded
    Refusal(
        "hypervisor.storage.degraded needs systemd in stage 1",
        """{ lib, ... }: {
          hypervisor.storage.degraded.enable = true;
          boot.initrd.systemd.enable = lib.mkForce false;
        }""",
    ),
    Refusal(
        "hypervisor.storage.degraded has nothing to start",
        "{ hypervisor.storage.degraded.enable = true; }",
    ),
    # network
    Refusal(
        "from the same MAC address",
        '{ hypervisor.network.links = { a.mac = "52:54:00:00:00:01"; b.mac = "52:54:00:00:00:01"; }; }',
    ),
    Refusal(
        "has more than one interface named",
        '{ hypervisor.network = { links.a = { }; isolatedBridges = [ "a" ]; }; }',
    ),
    Refusal(
        "cannot be a member twice",
        '{ hypervisor.network = { links.a = { }; bridges = { x.members = [ "a" ]; y.members = [ "a" ]; }; }; }',
    ),
    Refusal("is named as a member or a VLAN's link", '{ hypervisor.network.bonds.x.members = [ "a" ]; }'),
    Refusal(
        "has addresses and is a member too",
        '{ hypervisor.network = { links.a.addressing = { }; bridges.x.members = [ "a" ]; }; }',
    ),
    Refusal(
        "more than once. Give each its own id",
        """{ hypervisor.network = {
          links.a = { };
          vlans = { x = { id = 2; link = "a"; }; y = { id = 2; link = "a"; }; };
        }; }""",
    ),
    Refusal(
        "as Bond=, Bridge= or VLAN=, but no netdev makes it",
        '{ systemd.network.networks."40-a" = { matchConfig.Name = "a"; networkConfig.Bridge = "x"; }; }',
    ),
    Refusal(
        "There is no such interface:", '{ hypervisor.network.zones.storage.interfaces = [ "sotrage" ]; }'
    ),
    Refusal(
        "An interface is in two zones",
        """{ hypervisor.network = {
          otherInterfaces = [ "a1" ];
          zones = { x.interfaces = [ "a*" ]; y.interfaces = [ "a1" ]; };
        }; }""",
    ),
    Refusal(
        "A member of a bridge or bond is in a zone",
        """{ hypervisor.network = {
          links.a.mac = "52:54:00:00:00:01";
          bridges.x = { members = [ "a" ]; addressing = { }; };
          zones.management.interfaces = [ "a" "x" ];
        }; }""",
    ),
    Refusal("There is no such zone:", '{ hypervisor.network.zones.guests.forwardTo = [ "x" ]; }'),
    Refusal(
        "outside is what is in no other zone",
        '{ hypervisor.network = { links.a = { }; zones.outside.interfaces = [ "a" ]; }; }',
    ),
    Refusal("Nobody could reach this host's SSH server", "{ services.openssh.openFirewall = false; }"),
    Refusal("would wipe the tables that libvirt makes", "{ networking.nftables.flushRuleset = true; }"),
    Refusal("needs nftables, but networking.nftables", "{ networking.nftables.enable = false; }"),
    Refusal(
        "networking.firewall.filterForward would refuse", "{ networking.firewall.filterForward = true; }"
    ),
    Refusal(
        "these names belong to programs",
        '{ networking.nftables.tables.hyper-nixos-guests = { family = "bridge"; content = ""; }; }',
    ),
    # passthrough; the others: tests/test_nix_passthrough.py
    Refusal(
        'on a machine of another kind. Set it to "arm"',
        '{ hypervisor.passthrough = { enable = true; processor = "amd"; }; }',
        "aarch64-linux",
    ),
    # privileges
    Refusal("is in the group", '{ users.users.alice.extraGroups = [ "libvirtd" ]; }'),
    Refusal(
        "QEMU would run as root",
        "{ lib, ... }: { virtualisation.libvirtd.qemu.runAsRoot = lib.mkForce true; }",
    ),
    Refusal(
        "but there is no program to run",
        "{ hypervisor.privileges.broker.program = null; }",
    ),
    # security
    Refusal(
        "keeps accounts as they are declared",
        f"""{{ {HARDENED} hypervisor.security.profile = "strict";
          users.users.bob = {{ isNormalUser = true; extraGroups = [ "wheel" ]; }}; }}""",
    ),
    Refusal("has no firewall", f"{{ {HARDENED} networking.firewall.enable = false; }}"),
    Refusal(
        "would lock every administrator out of SSH",
        f'{{ {HARDENED} services.openssh.settings.AllowUsers = [ "grace" ]; }}',
    ),
    Refusal(
        "would block every keyboard",
        '{ hypervisor.security.usb = { enable = true; keyboards = false; present = "apply-policy"; }; }',
    ),
    Refusal(
        "signs what systemd-boot starts, and this host uses another loader",
        """({ lib, ... }: {
          hypervisor.security.secureBoot.enable = true;
          boot.loader.systemd-boot.enable = lib.mkForce false;
          boot.loader.grub = { enable = true; device = "nodev"; };
        })""",
    ),
    Refusal(
        "names the default system itself",
        """({ hypervisor.security.secureBoot.enable = true; boot.loader.systemd-boot.bootCounting.enable = true; })""",
    ),
)


@dataclass(frozen=True)
class Assertion:
    """An assertion in the text of a module."""

    file: str
    line: int
    parts: tuple[str, ...]
    """The message, between what is computed."""

    def says(self, message: str) -> bool:
        """Whether an evaluated message is this one's."""
        fixed = [_spaced(part) for part in self.parts]
        fixed[0] = fixed[0].lstrip()
        fixed[-1] = fixed[-1].rstrip()
        return re.fullmatch(".*".join(map(re.escape, fixed)), _spaced(message).strip()) is not None

    def may_say(self, words: str) -> bool:
        """Whether some words, computed ones among them, can be of this message: they lie in a fixed part, begin with
        the end of one, or end with the beginning of one.
        """
        return any(
            words in part
            or any(
                words.startswith(part[-length:]) or words.endswith(part[:length])
                for length in range(4, len(part))
            )
            for part in map(_spaced, self.parts)
        )

    def has(self, words: str) -> bool:
        """Whether the message has some words, without what is computed."""
        return any(words in _spaced(part) for part in self.parts)


def _spaced(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def assertions(root: Path = REPOSITORY) -> Iterator[Assertion]:
    """Every assertion in our modules: sets of `assertion` and `message`."""
    for folder in ("nix/modules", "iso"):
        for path in sorted((root / folder).rglob("*.nix")):
            tree = PARSER.parse(path.read_bytes())
            yield from _inside(tree.root_node, str(path.relative_to(root)))


def _inside(node: Node, file: str) -> Iterator[Assertion]:
    if node.type == "binding_set":
        bound = {
            (name.text or b"").decode(): child.child_by_field_name("expression")
            for child in node.named_children
            if child.type == "binding" and (name := child.child_by_field_name("attrpath"))
        }
        if bound.keys() >= {"assertion", "message"} and (message := bound["message"]):
            yield Assertion(file, node.start_point.row + 1, tuple(_parts(message)))
    for child in node.named_children:
        yield from _inside(child, file)


def _parts(node: Node) -> list[str]:
    """Fixed parts of a text; what is computed lies between two of them."""
    if node.type not in {"string_expression", "indented_string_expression"}:
        fixed = [part for child in node.named_children for part in _parts(child)]
        return ["", *fixed, ""]
    parts = [""]
    for child in node.named_children:
        text = (child.text or b"").decode()
        match child.type:
            case "interpolation":
                parts.append("")
            case "escape_sequence":
                parts[-1] += text.removeprefix("\\").removeprefix("''")
            case "dollar_escape":
                parts[-1] += text.removeprefix("\\").removeprefix("''")
            case _:
                parts[-1] += text
    return parts
