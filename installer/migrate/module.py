"""The one new file beside theirs. Pure."""

from typing import Any

from installer.frozen import Frozen
from installer.migrate.fallback import Fallback
from installer.migrate.findings import MARK, Findings, Kind
from installer.render.nix import Call, Commented, Function, Let, Nix, Reference, to_nix


class Source(Frozen):
    """Where the modules come from."""

    path: str
    """In the store."""
    locked: dict[str, Any]
    """Arguments of `builtins.fetchTree`, its hash among them, as `nix flake metadata` gives them."""


def module_text(findings: Findings, source: Source, fallback: Fallback) -> str:
    """The file: our modules, and what keeps the host as it is.

    A flake is evaluated without looking outside, so the modules are named by their hash; with channels they are
    named by their place in the store, which needs no experimental feature.
    """
    summary = findings.configuration.summary
    assert summary is not None
    tree: Nix
    if findings.configuration.kind is Kind.flake:
        tree = Call(Reference("builtins", "fetchTree"), source.locked)
    else:
        tree = Call(Reference("builtins", "storePath"), source.path)
    modules = Call(Reference("builtins", "concatStringsSep"), "/", [Reference("source"), "nix/modules"])
    body: dict[str, Nix] = {
        "imports": [modules],
        "hypervisor": {
            "enable": True,
            "source": Call(Reference("builtins", "toString"), Reference("source"))
            if findings.configuration.kind is Kind.channel
            else Reference("source", "outPath"),
            "migration": {"enable": True, "fallback": fallback.value},
            "network": {
                "enable": Commented(
                    "The host's own declarations make the network, the firewall and the ways in. Each of these can\n"
                    "be handed over later by taking its line out: one at a time, with a look at what changes.",
                    False,
                )
            },
            "security": {"enable": False},
            "privileges": {"enable": False},
        },
    }
    if summary.virtualisation.libvirtd:
        body["virtualisation"] = {
            "libvirtd": {
                "onBoot": Commented(
                    "As before: what becomes of guests when the host starts and stops.",
                    summary.virtualisation.on_boot,
                ),
                "onShutdown": summary.virtualisation.on_shutdown,
            }
        }
    text = to_nix(Function((), Let({"source": tree}, body)))
    return (
        f"{MARK} It makes this host a Hyper-NixOS host. `hv migrate --undo` takes it out again;\n"
        f"# until then it is yours to change.\n{text}"
    )
