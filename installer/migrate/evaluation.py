"""Asks Nix what a configuration is: the one that lies there, or a copy of it with a change."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from installer.errors import HyperError
from installer.execute.runner import CommandError, Runner
from installer.migrate.findings import Configuration, Kind
from installer.migrate.module import Source
from installer.migrate.summary import Summary, summary_function
from installer.render.nix import nix_string

FEATURES = ("--extra-experimental-features", "nix-command flakes")
ATTRIBUTE = "nixosConfigurations"
HOSTS = "hosts: builtins.mapAttrs (_: host: map toString (host.options.networking.hostName.files ++ host.options.system.stateVersion.files ++ host.options.fileSystems.files)) hosts"
"""For every host of a flake the files that say who it is: what two hosts name belongs to neither alone."""
OURS = "hosts: builtins.filter (name: hosts.${name}.options ? hypervisor) (builtins.attrNames hosts)"
"""Hosts of a flake that have our modules."""
SECONDS = 1800


class EvaluationError(HyperError):
    """Nix refused a configuration."""


@dataclass(frozen=True)
class Evaluator:
    """Runs Nix on configurations."""

    runner: Runner
    """Runs it."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """What the host's own rebuilds have: NIX_PATH above all."""

    def summary(self, configuration: Configuration, root: Path | None = None) -> Summary:
        """What the configuration evaluates to, or what it would with the files below another root.

        Raises EvaluationError with Nix's own words.
        """
        folder = root or Path(configuration.root)
        if configuration.kind is Kind.flake:
            said = self._flake(
                f"{self.reference(configuration, root)}#{ATTRIBUTE}.{nix_string(configuration.host or '')}",
                summary_function(),
            )
        else:
            said = self._channel(f"({summary_function()}) ({self.system(folder / configuration.entry)})")
        try:
            return Summary.model_validate(said)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise EvaluationError(
                "the configuration evaluates to something that is not understood",
                why=f"{'.'.join(map(str, first['loc']))}: {first['msg']}",
                remedy="its release may be newer than this program: update both, and try again",
            ) from None

    def host_files(self, configuration: Configuration) -> dict[str, tuple[str, ...]]:
        """For every host of the flake: the files that say who it is, in the store. Empty when one host does not
        evaluate: then nothing is known of what hosts share.
        """
        try:
            found = self._flake(f"{self.reference(configuration)}#{ATTRIBUTE}", HOSTS)
        except EvaluationError:
            return {}
        return {name: tuple(map(str, listed)) for name, listed in found.items()}

    def ours(self, configuration: Configuration, root: Path | None = None) -> tuple[str, ...]:
        """Hosts of the flake that have our modules."""
        return tuple(self._flake(f"{self.reference(configuration, root)}#{ATTRIBUTE}", OURS))

    def host_names(self, configuration: Configuration) -> tuple[str, ...]:
        """Names in nixosConfigurations; nothing of the hosts is evaluated."""
        return tuple(self._flake(f"{self.reference(configuration)}#{ATTRIBUTE}", "builtins.attrNames"))

    def source(self, reference: str) -> Source:
        """Our own flake, in the store, and how Nix finds it again by its hash.

        Only its source is wanted: `nix flake metadata` would lock its inputs too, which fetches a whole nixpkgs. Nor are
        names looked up in the registry of the Internet, which Nix fetches even when there is none to look up.
        """
        argv = ("nix", *FEATURES, "--option", "flake-registry", "", "flake", "prefetch", "--json", reference)
        said = self._json(
            argv,
            "our own modules",
            f"{reference} must be a flake that can be reached: name another with `hv migrate --source`",
        )
        locked = {
            name: value
            for name, value in said.get("locked", {"type": "path"}).items()
            if name not in ("lastModified", "__final", "dir")
        }
        if locked["type"] in ("path", "git", "file"):
            # A folder of this machine, which may change or go: the copy in the store is what was looked at.
            locked = {"type": "path", "path": said["storePath"]}
        return Source(path=said["storePath"], locked={**locked, "narHash": said["hash"]})

    def build(self, configuration: Configuration, root: Path | None = None) -> str:
        """Build the system, or that of the files below another root; its path. Nothing is switched to."""
        if configuration.kind is Kind.flake:
            target = (
                f"{self.reference(configuration, root)}#{ATTRIBUTE}.{nix_string(configuration.host or '')}"
            )
            argv = [
                "nix", *FEATURES, "build", "--no-link", "--print-out-paths",
                f"{target}.config.system.build.toplevel",
            ]  # fmt: skip
        else:
            expression = f"({self.system((root or Path(configuration.root)) / configuration.entry)}).config.system.build.toplevel"
            argv = ["nix-build", "--no-out-link", "-E", expression]
        return self.runner.run(argv, environment=self.environment).text.splitlines()[-1]

    def reference(self, configuration: Configuration, root: Path | None = None) -> str:
        """The flake: as git sees it, or any folder as it is."""
        folder = root or Path(configuration.root)
        inside = str(Path(configuration.entry).parent)
        below = "" if inside == "." else f"?dir={inside}"
        kind = "git+file" if configuration.repository and root is None else "path"
        return f"{kind}:{'//' if kind == 'git+file' else ''}{folder}{below}"

    @staticmethod
    def system(file: Path) -> str:
        """The expression of a channel configuration, as nixos-rebuild evaluates it."""
        return f"import <nixpkgs/nixos> {{ configuration = {nix_string(str(file))}; }}"

    def _flake(self, installable: str, function: str) -> Any:
        argv = ("nix", *FEATURES, "eval", "--json", "--no-write-lock-file", installable, "--apply", function)
        return self._json(argv, "the configuration")

    def _channel(self, expression: str) -> Any:
        argv = ("nix-instantiate", "--eval", "--strict", "--json", "--readonly-mode", "-E", expression)
        return self._json(argv, "the configuration")

    def _json(
        self,
        argv: tuple[str, ...],
        what: str,
        remedy: str = "`nixos-rebuild dry-build` shows the same, with all its words",
    ) -> Any:
        try:
            done = self.runner.run(argv, environment=self.environment, timeout=SECONDS, quiet=True)
        except CommandError as error:
            raise EvaluationError(
                f"Nix does not evaluate {what}",
                why=_telling(error.why),
                remedy=remedy,
            ) from error
        return json.loads(done.stdout)


def _telling(said: str) -> str:
    """The last error of a trace, without the trace."""
    lines = [line.strip() for line in said.splitlines()]
    last = next((at for at in reversed(range(len(lines))) if lines[at].startswith("error:")), None)
    told = lines if last is None else lines[last:]
    return " ".join(line for line in told if line)[:600]
