"""Four faults that no change may bring: nobody gets in; a console that a wizard holds; somebody's configuration written
over; a program that says done and changed nothing. Here stands what holds for all programs; the rest is tested where it
belongs. Lockouts: test_answers_login, test_execute_proofs, test_firstrun_phase, test_network_revert, test_health,
test_migrate. Done and nothing changed: test_execute_faults, test_migrate_execute (an import without effect, a boot menu
without the new system), test_pools, test_esp.
"""

import re
from pathlib import Path

import pytest

from hv import cli
from installer.commands import install
from installer.errors import Exit, HyperError
from installer.execute.configuration import require_empty_place
from installer.render import RenderedHost
from tests.nixeval.nix import REPOSITORY
from tests.nixeval.services import committed

HOST = {path: text for path, text in committed().items() if path.startswith("host/")}


def directives(text: str, name: str) -> set[str]:
    """Words of a unit's directive."""
    return {word for line in re.findall(rf"^{name}=(.*)$", text, re.MULTILINE) for word in line.split()}


def holds_console(text: str) -> list[str]:
    """What of a unit would stand between a person and a login."""
    held = sorted(each for each in directives(text, "Conflicts") if "getty" in each)
    held += sorted(
        directives(text, "TTYPath") | (directives(text, "StandardInput") & {"tty", "tty-force", "tty-fail"})
    )
    # Waiting for it is waiting for a login; what makes the accounts themselves has to come first, and asks nobody.
    before = {"getty.target", "getty@tty1.service", "systemd-user-sessions.service"}
    if "systemd-sysusers" not in text:
        held += sorted(directives(text, "Before") & before)
    return held


@pytest.mark.parametrize("path", sorted(HOST))
def test_no_service_of_a_host_holds_the_console(path: str) -> None:
    assert holds_console(HOST[path]) == []


def test_a_service_that_holds_the_console_is_noticed() -> None:
    wizard = "[Unit]\nConflicts=getty@tty1.service\nBefore=getty.target\n[Service]\nStandardInput=tty\nTTYPath=/dev/tty1\n"
    assert holds_console(wizard) == ["getty@tty1.service", "/dev/tty1", "tty", "getty.target"]


def test_the_live_page_leaves_other_consoles_alone() -> None:
    page = committed()["medium/hyper-nixos-page.service"]
    assert {each for each in directives(page, "Conflicts") if "getty" in each} == {"getty@tty1.service"}
    assert (
        'targets.getty.wants = [ "getty@tty2.service" ]' in (REPOSITORY / "iso/live/console.nix").read_text()
    )


def test_no_program_of_ours_has_a_configuration_generated_over_one() -> None:
    sources = [
        *REPOSITORY.glob("installer/**/*.py"),
        *REPOSITORY.glob("hv/**/*.py"),
        *REPOSITORY.glob("nix/**/*.*"),
    ]
    for path in sources:
        for line in path.read_text(errors="replace").splitlines():
            assert not ("nixos-generate-config" in line and "--force" in line), path


def test_rendering_writes_over_nobodys_configuration(tmp_path: Path) -> None:
    """`hv install --render /etc/nixos` on a host with a configuration of its own."""
    theirs = tmp_path / "configuration.nix"
    theirs.write_text('{ networking.hostName = "mine"; }\n')
    rendered = RenderedHost({"configuration.nix": "{ }\n", "disks.nix": "{ }\n"}, ())
    with pytest.raises(HyperError, match="is not written over") as raised:
        require_empty_place(tmp_path, rendered)
    assert str(theirs) in raised.value.why
    assert not (tmp_path / "disks.nix").exists()
    # What was rendered before may be rendered again.
    theirs.write_text("{ }\n")
    require_empty_place(tmp_path, rendered)


def test_rendering_through_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "flake.nix").write_text("{ outputs = _: { }; }\n")
    argv = ["install", "--answers", "examples/home-lab.toml", "--machine", "tests/machines/lab-bios"]
    argv += ["--medium", "examples/medium.json", "--render", str(tmp_path)]
    assert cli.run(argv) == Exit.step
    assert [path.name for path in tmp_path.iterdir()] == ["flake.nix"]
    assert "is not written over" in capsys.readouterr().err


def test_the_installer_still_has_no_way_around() -> None:
    """No option goes past consent or a lockout."""
    options = {word for action in install.parser()._actions for word in action.option_strings}
    assert not options & {"--force", "--yes", "--no-checks", "--skip-checks"}
