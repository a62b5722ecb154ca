"""`hv media`: install media. What each verb does is in iso/commands/media_*.py; this has the command line alone."""

import argparse
import os
from importlib import import_module
from pathlib import Path
from typing import Any

from installer.command_line import Parser
from installer.execute.interrupts import ended_by_signals

VERBS = {
    "build": ("media_build", "build a medium with Nix, with its manifest and lists of contents"),
    "host": ("media_host", "make a disk image of an installed host, which grows when it first starts"),
    "show": ("media_content", "show what is embedded in a medium, without secrets"),
    "embed": ("media_content", "put answers, keys and the like into a medium, in place"),
    "extract": ("media_content", "write what is embedded into a folder"),
    "diff": ("media_content", "compare what is embedded in two media"),
    "reset": ("media_content", "take out what is embedded: the medium is as it was built"),
    "verify": ("media_verify", "check a medium: its embed area, and its parts against a signed manifest"),
    "manifest": ("media_verify", "write hashes that still fit after answers were put in, and sign them"),
    "sbom": ("media_verify", "list what is in a medium, as SPDX or CycloneDX"),
    "doctor": (
        "media_doctor",
        "list each way in which firmware could boot an image, and what is wrong with it",
    ),
    "adopt": (
        "media_adopt",
        "give a stock NixOS image a place for answers, and programs that start by themselves",
    ),
    "pack": ("media_pack", "add systems of hosts behind a finished image, for installing without a network"),
    "write": ("media_write", "write an image to a stick, and read it back"),
    "netboot": ("media_netboot", "make a folder from which machines boot over the network, with answers"),
    "serve": ("media_netboot", "serve such a folder over HTTP, and say how to lead machines to it"),
    "fleet": ("media_web", "make answers for many machines from a table, for one image"),
    "web": ("media_web", "serve a page on which media are customised"),
    "try": ("media_try", "boot an image in QEMU, as a CD or as a stick"),
}
"""Name of each verb: the module that runs it, and its summary."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = Parser(
        prog="hv media",
        description="Install media: ISO images, sticks, disk images and what boots over the network.",
    )
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    made = {name: verbs.add_parser(name, help=summary) for name, (_, summary) in VERBS.items()}
    for name in ("show", "embed", "extract", "reset", "verify", "manifest", "sbom", "doctor", "try"):
        _image(made[name])
    _show(made["show"])
    _embed(made["embed"])
    made["extract"].add_argument("folder", metavar="DIR", type=Path, help="a folder that does not exist yet")
    diff = made["diff"]
    diff.add_argument("image", metavar="FILE", type=Path, help="an image or stick")
    diff.add_argument(
        "other", metavar="OTHER", type=Path, help="another, or a folder as `extract` writes it"
    )
    _output(made["reset"])
    manifest = made["manifest"]
    manifest.add_argument(
        "--output", metavar="OUTPUT", type=Path, help="where to (default: beside the image)"
    )
    manifest.add_argument("--key", metavar="KEY", type=Path, help="SSH key to sign it with")
    manifest.add_argument("--sums", action="store_true", help="write SHA256SUMS too")
    sbom = made["sbom"]
    sbom.add_argument(
        "--format", choices=("spdx", "cyclonedx"), default="spdx", help="(default: %(default)s)"
    )
    sbom.add_argument("--output", metavar="OUTPUT", type=Path, help="where to (default: standard output)")
    _netboot(made["netboot"], made["serve"])
    _build(made["build"])
    _host(made["host"])
    _web(made["web"], made["fleet"])
    _write(made["write"])
    adopt = made["adopt"]
    adopt.add_argument("image", metavar="FILE", type=Path, help="a stock NixOS ISO image, 24.11 or later")
    adopt.add_argument("--output", metavar="OUTPUT", required=True, help="the new image")
    adopt.add_argument(
        "--payload",
        metavar="SQUASHFS",
        type=Path,
        help="store paths with their registration, to be added to the store",
    )
    adopt.add_argument(
        "--start", metavar="PROGRAM", help="program of the payload that the live system starts"
    )
    _pack(made["pack"])
    _try(made["try"])
    verify = made["verify"]
    verify.add_argument(
        "--manifest", metavar="MANIFEST", type=Path, help="what the builder said of the image"
    )
    verify.add_argument(
        "--signers",
        metavar="SIGNERS",
        type=Path,
        help="who may have signed it (ssh-keygen(1), ALLOWED SIGNERS)",
    )
    verify.add_argument(
        "--payload-signers",
        metavar="SIGNERS",
        type=Path,
        help="who must have signed what is embedded (`embed --sign`)",
    )
    verify.add_argument("--json", action="store_true", help="print the result for programs")
    made["doctor"].add_argument("--json", action="store_true", help="print the result for programs")
    return top


def _image(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "image", metavar="FILE", type=Path, help="ISO image, stick, raw disk image or initial RAM disk"
    )


def _output(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--output",
        metavar="OUTPUT",
        help="leave FILE as it is and write the changed image there; - writes to the standard output",
    )


def _show(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--answers", action="store_true", help="print the answers too, without secrets")
    verb.add_argument("--json", action="store_true", help="print it for programs")


def _embed(verb: argparse.ArgumentParser) -> None:
    _output(verb)
    content(verb)
    verb.add_argument("--add", action="store_true", help="keep what is embedded and is not named now")


def content(verb: argparse.ArgumentParser) -> None:
    """Options that say what goes into a medium."""
    several: dict[str, Any] = {"action": "append", "default": [], "type": Path}
    verb.add_argument("--answers", metavar="ANSWERS", type=Path, help="answer file, TOML")
    verb.add_argument(
        "--key", metavar="KEY", **several, help="file with public SSH keys for root of the live system"
    )
    verb.add_argument("--ca", metavar="PEM", **several, help="file with certificates to trust when fetching")
    verb.add_argument("--signers", metavar="SIGNERS", type=Path, help="who must have signed fetched answers")
    verb.add_argument(
        "--secret", metavar="NAME=SECRET", action="append", default=[], help="a secret, read from a file"
    )
    verb.add_argument(
        "--network", metavar="CONNECTION", **several, help="NAME.nmconnection, a network for the live system"
    )
    verb.add_argument("--hook", metavar="HOOK", **several, help="a program that answers name as a hook")
    verb.add_argument(
        "--folder",
        metavar="DIR",
        type=Path,
        help="a folder laid out as `extract` writes it, for all of these",
    )
    verb.add_argument(
        "--kernel-argument",
        metavar="ARGUMENT",
        action="append",
        default=[],
        help="one argument for the kernel",
    )
    verb.add_argument(
        "--recipient",
        metavar="AGE",
        action="append",
        default=[],
        help="wrap the secrets for this age recipient",
    )
    verb.add_argument(
        "--passphrase",
        metavar="PASSPHRASE",
        type=Path,
        help="wrap the secrets with the passphrase in this file",
    )
    verb.add_argument(
        "--sign", metavar="SSH_KEY", type=Path, help="sign all that is embedded with this private SSH key"
    )


def _netboot(netboot: argparse.ArgumentParser, serve: argparse.ArgumentParser) -> None:
    netboot.add_argument("image", metavar="DIR", type=Path, help="what `nix build .#netboot` made")
    netboot.add_argument(
        "--output", metavar="OUTPUT", required=True, help="a folder that does not exist yet"
    )
    netboot.add_argument("--url", required=True, help="where it will be served, e.g. http://192.0.2.1:8080")
    netboot.add_argument(
        "--ipxe",
        metavar="FILE",
        type=Path,
        help="iPXE as an EFI program, for firmware that boots by HTTP itself (default: the one in DIR)",
    )
    netboot.add_argument(
        "--store",
        choices=("ram-disk", "fetched"),
        help="have the store in the RAM disk, or fetched by itself in stage 1 (default: by its size)",
    )
    content(netboot)
    serve.add_argument("image", metavar="DIR", type=Path, help="a folder that `hv media netboot` made")
    serve.add_argument(
        "--listen",
        metavar="ADDRESS:PORT",
        default="127.0.0.1:8080",
        help="where to listen (default: %(default)s)",
    )


def _build(verb: argparse.ArgumentParser) -> None:
    machine = {"arm64": "aarch64", "amd64": "x86_64"}.get(os.uname().machine, os.uname().machine)
    verb.add_argument(
        "kind",
        choices=("iso", "netboot", "raw", "qcow2", "kexec"),
        nargs="?",
        default="iso",
        help="(default: %(default)s)",
    )
    verb.add_argument(
        "--arch",
        choices=("x86_64", "aarch64"),
        default=machine if machine in ("x86_64", "aarch64") else "x86_64",
        help="for which processors (default: this computer's)",
    )
    verb.add_argument(
        "--flake", default=".", help="where the flake is (default: %(default)s, the folder at hand)"
    )
    verb.add_argument(
        "--output", metavar="OUTPUT", type=Path, help="copy the image there, with manifest, sums and lists"
    )
    verb.add_argument("--offline", action="store_true", help="take everything from the store that is here")
    verb.add_argument(
        "--compression",
        choices=("dev", "default", "release"),
        default="default",
        help="pack it quickly, well, or as small as can be (default: %(default)s)",
    )
    verb.add_argument(
        "--tier",
        choices=("minimal", "standard", "enhanced", "professional", "enterprise"),
        help="iso: carry the ready system of this tier alone (default: of each)",
    )
    verb.add_argument(
        "--builder",
        metavar="MACHINE",
        action="append",
        default=[],
        help="have it built there, as nix.conf's `builders` names machines, e.g. "
        '"ssh-ng://builder aarch64-linux"; repeatable; nothing is built here then',
    )
    verb.add_argument(
        "--published",
        metavar="URL",
        help="build nothing: fetch the image from there, verified by its signed manifest beside it; needs no Nix",
    )
    verb.add_argument(
        "--signers",
        metavar="FILE",
        type=Path,
        help="who may have signed it, as ssh-keygen's allowed signers",
    )


def _host(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("answers", metavar="ANSWERS", type=Path, help="answer file, TOML or JSON")
    verb.add_argument(
        "--medium",
        metavar="FILE",
        type=Path,
        help="an ISO image of ours, or the medium.json of a live system (default: the one that runs)",
    )
    verb.add_argument("--size", default="8GiB", help="of the disk, until it grows (default: %(default)s)")
    verb.add_argument("--bios", action="store_true", help="it starts by BIOS, with GRUB, instead of UEFI")
    verb.add_argument(
        "--from",
        dest="store",
        metavar="STORE",
        help="Nix store or cache that holds the system, e.g. file:///srv/cache (default: as the medium says)",
    )
    verb.add_argument(
        "--output", metavar="OUTPUT", type=Path, help="the image: NAME.qcow2, or raw under any other name"
    )
    verb.add_argument(
        "--render",
        metavar="DIR",
        type=Path,
        help="only write the configuration that its system is built from",
    )
    verb.add_argument("--json", action="store_true", help="print the result for programs")


def _web(web: argparse.ArgumentParser, fleet: argparse.ArgumentParser) -> None:
    web.add_argument("image", metavar="FILE", type=Path, nargs="+", help="images, or folders with *.iso")
    web.add_argument(
        "--listen",
        metavar="ADDRESS:PORT",
        default="127.0.0.1:8090",
        help="where to listen (default: %(default)s)",
    )
    web.add_argument(
        "--behind-tls", action="store_true", help="a proxy in front does TLS, and lets in who may"
    )
    web.add_argument(
        "--name", action="append", default=[], help="a name by which browsers address it besides"
    )
    web.add_argument(
        "--machine",
        metavar="RECORD",
        type=Path,
        action="append",
        default=[],
        help="a recorded machine to try answers on",
    )
    web.add_argument(
        "--medium",
        metavar="FILE",
        type=Path,
        help="an ISO image of ours, or the medium.json of a live system, for the whole plan",
    )
    fleet.add_argument(
        "image", metavar="FILE", type=Path, help="CSV: name, serial, and fields of the answer file"
    )
    fleet.add_argument(
        "--answers", metavar="ANSWERS", type=Path, required=True, help="what all of them have, TOML"
    )
    fleet.add_argument("--output", metavar="OUTPUT", required=True, help="a folder that does not exist yet")


def _pack(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("image", metavar="FILE", type=Path, help="an ISO image; it is changed in place")
    verb.add_argument(
        "system",
        metavar="NAME=STOREPATH",
        nargs="*",
        help="a system, and what answers call it (`system.closure`); none: list what was added",
    )
    verb.add_argument(
        "--cache",
        metavar="DIR",
        type=Path,
        help="a binary cache with them (`nix copy --to file://DIR`), instead of the store that is here",
    )
    verb.add_argument(
        "--described",
        metavar="CLOSURES",
        type=Path,
        help="a medium's list of systems, JSON: for a tier's system, NAME is enough then",
    )
    verb.add_argument("--remove", action="store_true", help="take out everything that was added")


def _write(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("image", metavar="FILE", type=Path, help="an image")
    verb.add_argument(
        "device", metavar="DEVICE", type=Path, help="the whole disk: /dev/sdX, or a name in by-id"
    )
    verb.add_argument(
        "--confirm", metavar="SERIAL", help="the disk's serial number: consent, without being asked"
    )
    verb.add_argument("--resume", action="store_true", help="go on where an interrupted writing ended")
    verb.add_argument(
        "--config",
        action="store_true",
        help="add a partition with the answers that are named; any system can edit it",
    )
    verb.add_argument(
        "--anyway", action="store_true", help="write an image that would not boot from a stick"
    )
    content(verb)


def _try(verb: argparse.ArgumentParser) -> None:
    firmware = verb.add_mutually_exclusive_group()
    for name in ("bios", "uefi", "secure-boot"):
        firmware.add_argument(
            f"--{name}",
            dest="firmware",
            action="store_const",
            const=name,
            help={
                "bios": "start it by BIOS",
                "uefi": "start it by UEFI (the default)",
                "secure-boot": "start it by UEFI with Secure Boot and Microsoft's keys",
            }[name],
        )
    attached = verb.add_mutually_exclusive_group()
    attached.add_argument(
        "--cd", dest="attached", action="store_const", const="cd", help="as a CD (the default)"
    )
    attached.add_argument("--usb", dest="attached", action="store_const", const="usb", help="as a stick")
    attached.add_argument(
        "--pxe",
        dest="attached",
        action="store_const",
        const="pxe",
        help="FILE is a folder of `netboot`, served at http://10.0.2.2:PORT as the machine sees this computer",
    )
    verb.add_argument(
        "--answers", metavar="ANSWERS", type=Path, help="hand these answers to the machine (fw_cfg)"
    )
    verb.add_argument(
        "--disk",
        metavar="SIZE",
        action="append",
        default=[],
        help="give it a blank disk, e.g. 20G, or a file that keeps what is written to it; repeatable",
    )
    verb.add_argument("--tpm", action="store_true", help="give it a TPM 2")
    verb.add_argument("--no-network", action="store_true", help="give it no network card")
    verb.add_argument(
        "--memory", metavar="MIB", type=int, default=2048, help="memory (default: %(default)s)"
    )
    verb.add_argument(
        "--expect",
        metavar="TEXT",
        action="append",
        default=[],
        help="end well when this comes over the serial line; repeatable, in this order",
    )
    verb.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=float,
        default=60,
        help="how long to wait with KVM; ten times as long without (default: %(default)s)",
    )
    verb.add_argument(
        "--serial", metavar="LOG", type=Path, help="write what comes over the serial line there"
    )
    verb.add_argument("--screenshot", metavar="PNG", type=Path, help="write a picture of the screen there")
    verb.add_argument("--json", action="store_true", help="print the result for programs")


def main(argv: list[str]) -> int:
    """Run one verb. Raises HyperError."""
    options = parser().parse_args(argv)
    module = import_module(f"iso.commands.{VERBS[options.verb][0]}")
    with ended_by_signals():
        return int(module.RUN[options.verb](options))
