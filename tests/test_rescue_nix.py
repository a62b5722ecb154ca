"""What `hv rescue login` writes into a host's configuration, evaluated: the next rebuild keeps it."""

from pathlib import Path

import pytest

from hv.rescue.login import MODULE, NewLogin, keep_in_configuration
from tests import plan_cases as cases
from tests.nixeval import hosts
from tests.nixeval.cases import inputs, rendered_on
from tests.nixeval.host import evaluate_flake_host

pytestmark = [pytest.mark.nixpkgs]

SELECT = """host: let
  inherit (host.config.users.users) anna;
  hardened = host.config.specialisation.hardened.configuration;
in {
  keys = anna.openssh.authorizedKeys.keys;
  hardenedKeys = hardened.users.users.anna.openssh.authorizedKeys.keys;
  password = anna.hashedPasswordFile;
  allowed = host.config.services.openssh.settings.AllowUsers;
  hardenedAllowed = hardened.services.openssh.settings.AllowUsers;
}"""


def test_a_login_lasts_in_both_phases(tmp_path: Path) -> None:
    folder = tmp_path / "etc/nixos"
    folder.mkdir(parents=True)
    directory = hosts.write(rendered_on("home-lab", "x86_64").files, folder)
    before = (directory / "configuration.nix").read_text()
    said = [*keep_in_configuration(directory, NewLogin("anna", "$6$x$y", cases.KEY))]
    assert len(said) == 2
    assert (directory / "configuration.nix").read_text() != before
    assert "$6$x$y" not in (directory / MODULE).read_text(), "everybody reads the store"
    found = evaluate_flake_host(directory, inputs("home-lab")[1].hostname, SELECT)
    assert found.failed_assertions == ()
    assert cases.KEY in found.value["keys"]
    assert cases.KEY in found.value["hardenedKeys"]
    assert found.value["password"] == "/var/lib/hyper-nixos/secrets/passwords/anna"
    assert "anna" in found.value["allowed"]
    assert "anna" in found.value["hardenedAllowed"]
