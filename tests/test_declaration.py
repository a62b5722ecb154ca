"""host.toml: read as strictly as an answer file, and enough to write the host's modules anew."""

import tomllib
from pathlib import Path

import pytest

from hv.setup.edit import rewritten, set_field
from hv.setup.proposal import propose
from installer.answers.declaration import INSTALLED, load_declaration
from installer.answers.problems import AnswersError
from installer.errors import Exit
from installer.render.host import APPLIED, DECLARATION, declared_files
from installer.render.templates import load_templates
from tests.nixeval import hosts
from tests.nixeval.cases import CASES, MEDIUM, inputs, rendered
from tests.nixeval.host import evaluate_flake_host

MINIMAL = """\
version = 1
hostname = "kvm1"
[[users]]
name = "ada"
admin = true
ssh_keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDZGMF1Vc1hV0M0d0Jm9kVyBqJd2oW4kHcA1qXW0s3bT ada"]
"""


@pytest.mark.parametrize("name", CASES)
def test_the_modules_follow_from_the_declaration(name: str) -> None:
    """Whatever the installer rendered, the declaration beside it renders again, byte for byte."""
    files = rendered(name).files
    answers = load_declaration(files[DECLARATION].encode(), DECLARATION)
    extra = tuple(each for each in ("passthrough.nix", "unlock.nix") if each in files)
    again = declared_files(answers, MEDIUM.release, extra, load_templates())
    assert again == {path: files[path] for path in again}
    assert files[APPLIED] == files[DECLARATION]


@pytest.mark.parametrize("name", CASES)
def test_no_secret_is_in_it(name: str) -> None:
    text = rendered(name).files[DECLARATION]
    _facts, answers = inputs(name)
    hashes = [user.password_hash for user in answers.users if user.password_hash]
    assert not any(each in text for each in hashes)
    raw = tomllib.loads(text)
    assert not set(raw) & {path[0] for path in INSTALLED if len(path) == 1}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('[storage]\ndisk = { serial = "x" }\n', "disks.nix has the disks"),
        ('[security]\nphase = "hardened"\n', "hv security harden"),
        ('[[webhooks]]\nurl = "https://x"\n', "take it out"),
    ],
)
def test_what_only_an_installation_can_do_is_refused(line: str, said: str) -> None:
    with pytest.raises(AnswersError, match="does not belong") as caught:
        load_declaration((MINIMAL + line).encode(), "host.toml")
    assert said in str(caught.value)


def test_an_error_has_its_line() -> None:
    with pytest.raises(AnswersError) as caught:
        load_declaration((MINIMAL + "[ssh]\nport = 70000\n").encode(), "host.toml")
    assert (caught.value.problems[0].path, caught.value.problems[0].line) == (("ssh", "port"), 8)


def test_nobody_is_locked_out() -> None:
    with pytest.raises(AnswersError) as caught:
        load_declaration(MINIMAL.replace("true", "false").encode(), "host.toml")
    assert caught.value.code is Exit.lockout


@pytest.mark.nixpkgs
def test_what_setup_makes_of_a_host_evaluates(tmp_path: Path) -> None:
    """With a person's own lines in the modules, and a person's own option."""
    files = dict(rendered("home-lab").files)
    module = files["configuration.nix"]
    files["configuration.nix"] = f"{module[:-2]}  # mine\n  services.fwupd.enable = true;\n}}\n"
    raw = tomllib.loads(files[DECLARATION])
    for each in (
        "timezone=Europe/Zurich",
        "ssh.port=2222",
        "hypervisor.tier=enhanced",
        "users.anna.shell=fish",
        'network.dns=["192.0.2.53"]',
    ):
        raw = set_field(raw, each)
    raw["users"].append({"name": "bert", "ssh_keys": [raw["users"][0]["ssh_keys"][0]]})
    proposal = propose(files, rewritten(files[DECLARATION], raw), load_templates())
    changed = files | {each.path: each.text for each in proposal.staged}
    select = """host: {
      zone = host.config.time.timeZone;
      ports = host.config.services.openssh.ports;
      tier = host.config.hypervisor.tier;
      fwupd = host.config.services.fwupd.enable;
      dns = host.config.networking.nameservers;
      bert = host.config.users.users.bert.isNormalUser;
      drv = host.config.system.build.toplevel.drvPath;
    }"""
    host = evaluate_flake_host(hosts.write(changed, tmp_path), "homelab", select)
    assert (host.failed_assertions, host.warnings) == ((), ())
    assert host.value.pop("drv").startswith("/nix/store/")
    assert host.value == {
        "zone": "Europe/Zurich",
        "ports": [2222],
        "tier": "enhanced",
        "fwupd": True,
        "dns": ["192.0.2.53"],
        "bert": True,
    }
