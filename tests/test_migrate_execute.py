"""A migration carried out and taken back: real files, git and GRUB's own tool. Nix's build, and what NixOS's systems do to
boot menus, are small stand-ins with the same names.
"""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from installer.errors import Exit, HyperError
from installer.execute.interrupts import ended_by_signals
from installer.execute.log import NoLog
from installer.execute.runner import Runner
from installer.migrate.execute import Executor
from installer.migrate.fallback import Fallback
from installer.migrate.findings import FILE, IMPORT, Configuration, Findings
from installer.migrate.plan import Plan, make_plan
from installer.migrate.trial import DONE, PROGRAM, SOURCE_ROOT, TRIAL, Trial
from tests.migrate.world import SEARCH, RecordedNix, machine, seen
from tests.test_migrate import SOURCE, changed, commit

SWITCH = """#!/bin/sh
# What `switch-to-configuration boot` does to the menus: every generation has an entry, and this system is the default.
set -eu
system=$(dirname "$(dirname "$0")")
[ ! -e {root}/broken-loader ] || {{ echo "no space left on device" >&2; exit 1; }}
mkdir -p {root}/boot/loader/entries {root}/boot/grub
printf '%s\\n' "$system" > {root}/default
rm -f {root}/boot/loader/entries/*
submenu=
for each in {root}/nix/var/nix/profiles/system-*-link; do
  is=$(readlink -f "$each")
  name=nixos-$(basename "$is")
  counter=
  [ ! -e "$is/counts" ] && [ ! -e "$system/counts" ] || counter=+2
  printf 'title NixOS\\noptions init=%s/init quiet\\n' "$is" > "{root}/boot/loader/entries/$name$counter.conf"
  submenu="menuentry \\"$name\\" {{
  linux init=$is/init
}}
$submenu"
done
cat > {root}/boot/grub/grub.cfg <<X
menuentry "NixOS" {{
  linux init=$system/init
}}
submenu "NixOS - All configurations" {{
$submenu
}}
X
"""
NIX_ENV = """#!/bin/sh
# nix-env --profile P --set SYSTEM, --switch-generation N, --delete-generations N...
set -eu
profile=$2 what=$3
shift 3
case $what in
  --set)
    [ "$(readlink -f "$profile")" != "$1" ] || exit 0
    number=1
    while [ -L "$profile-$number-link" ]; do number=$((number + 1)); done
    ln -s "$1" "$profile-$number-link"
    ln -sfn "system-$number-link" "$profile" ;;
  --switch-generation)
    [ -L "$profile-$1-link" ] || { echo "generation $1 does not exist" >&2; exit 1; }
    ln -sfn "system-$1-link" "$profile" ;;
  --delete-generations)
    for number; do
      [ "$(readlink "$profile")" != "system-$number-link" ] || { echo "it is current" >&2; exit 1; }
      rm "$profile-$number-link"
    done ;;
  *) exit 2 ;;
esac
"""
BOOTCTL = '#!/bin/sh\nprintf "%s" "$2" > {root}/oneshot\n'


class Building(RecordedNix):
    """Its systems are built already."""

    built: Path
    broken: str | None = None

    def build(self, configuration: Configuration, root: Path | None = None) -> str:
        if self.broken:
            raise HyperError("it does not build", why=self.broken, remedy="mend it")
        folder = root or Path(configuration.root)
        listed = [path for path in folder.rglob("*.nix") if IMPORT in path.read_text()]
        assert len(listed) == 1, "the import is in what is built"
        assert len(list(folder.rglob(FILE))) == 1
        return str(self.built)


class Migration:
    """A machine, and everything that a migration of it needs."""

    def __init__(self, base: Path, style: str, *, repository: bool = False) -> None:
        self.base = machine(base, style)
        if repository:
            commit(self.base / "etc/nixos")
        programs = self.base / "programs"
        programs.mkdir()
        for name, text in {"nix-env": NIX_ENV, "bootctl": BOOTCTL}.items():
            self.program(programs / name, text)
        self.old = (self.base / "run/current-system").resolve()
        self.new = self.base / "nix/store/11111111111111111111111111111111-nixos-system-box"
        for system in (self.old, self.new):
            (system / "bin").mkdir(parents=True, exist_ok=True)
            self.program(system / "bin/switch-to-configuration", SWITCH)
        (self.base / "nix/var/nix/profiles/system").unlink()
        self.runner = Runner(NoLog(), f"{programs}:{SEARCH}")
        self.nix = Building(style, self.base)
        self.nix.built = self.new
        self.said: list[str] = []
        self.executor = Executor(str(self.base), self.runner, self.nix, self.said.append)
        self.executor._set_profile(str(self.old))
        self.runner.run((f"{self.old}/bin/switch-to-configuration", "boot"))

    def program(self, path: Path, text: str) -> None:
        path.write_text(text.replace("{root}", str(self.base)).replace("{{", "{").replace("}}", "}"))
        path.chmod(0o755)

    def look(self, spoil: Callable[[Findings], Findings] = lambda each: each) -> tuple[Findings, Plan]:
        findings = spoil(seen(self.base, self.nix))
        findings = findings.model_copy(update={"current": str(self.old)})
        return findings, make_plan(findings, SOURCE)

    def files(self) -> dict[str, bytes]:
        folder = self.base / "etc/nixos"
        return {str(path): path.read_bytes() for path in sorted(folder.rglob("*.nix"))}

    def entries(self) -> list[str]:
        return sorted(path.name for path in (self.base / "boot/loader/entries").iterdir())

    @property
    def default(self) -> Path:
        """What the boot menu starts."""
        return Path((self.base / "default").read_text().strip())

    def git(self, *words: str) -> str:
        return subprocess.run(
            ("git", "-C", self.base / "etc/nixos", *words), check=True, capture_output=True, text=True
        ).stdout


def grub(findings: Findings) -> Findings:
    space = {"mount": "/", "device": "/dev/sda1", "kind": "ext4", "total": 1, "free": 1 << 40}
    return changed(findings, summary__loader__systemd_boot=False, summary__loader__grub=True, spaces=[space])


def once(findings: Findings) -> Findings:
    return changed(findings, summary__loader__counts=False)


def test_boots_of_the_new_entry_are_counted_and_the_old_one_is_good(tmp_path: Path) -> None:
    migration = Migration(tmp_path, "channel")
    (migration.new / "counts").touch()
    before = migration.files()
    findings, plan = migration.look()
    trial = migration.executor.carry_out(findings, plan, SOURCE)
    assert (trial.before, trial.after, trial.fallback) == (
        str(migration.old),
        str(migration.new),
        Fallback.counted,
    )
    assert migration.entries() == [
        f"nixos-{migration.old.name}.conf",
        f"nixos-{migration.new.name}+2.conf",
    ] or migration.entries() == [f"nixos-{migration.new.name}+2.conf", f"nixos-{migration.old.name}.conf"]
    assert migration.default == migration.new
    assert (tmp_path / SOURCE_ROOT.lstrip("/")).readlink() == Path(SOURCE.path)
    record = Trial.model_validate_json((tmp_path / TRIAL.lstrip("/")).read_bytes())
    assert record == trial
    assert record.expected.administrators == ("alice",)
    assert record.expected.guests == ("router",)
    assert (tmp_path / TRIAL.lstrip("/")).stat().st_mode & 0o777 == 0o600
    # The running system is what it was.
    assert (tmp_path / "run/current-system").resolve() == migration.old
    migration.executor.undo()
    assert migration.files() == before
    assert migration.default == migration.old
    assert not (tmp_path / TRIAL.lstrip("/")).exists()
    assert not (tmp_path / SOURCE_ROOT.lstrip("/")).is_symlink()


def test_an_entry_that_is_not_counted_is_no_fallback(tmp_path: Path) -> None:
    """NixOS wrote it without a counter: then nothing is left behind."""
    migration = Migration(tmp_path, "channel")
    before = migration.files()
    findings, plan = migration.look()
    with pytest.raises(HyperError, match="as it was") as raised:
        migration.executor.carry_out(findings, plan, SOURCE)
    assert "not counted" in raised.value.why
    assert (migration.files(), migration.default) == (before, migration.old)
    assert not (tmp_path / TRIAL.lstrip("/")).exists()


def test_grub_starts_the_new_system_once(tmp_path: Path) -> None:
    migration = Migration(tmp_path, "flake-one")
    findings, plan = migration.look(grub)
    migration.executor.carry_out(findings, plan, SOURCE)
    environment = tmp_path / "boot/grub/grubenv"
    listed = migration.runner.run(("grub-editenv", str(environment), "list")).text
    assert listed == "next_entry=1>0"
    assert migration.default == migration.old
    migration.executor.undo()
    assert migration.runner.run(("grub-editenv", str(environment), "list")).text == ""


def test_systemd_boot_of_older_releases_starts_the_new_system_once(tmp_path: Path) -> None:
    migration = Migration(tmp_path, "flake-hosts")
    findings, plan = migration.look(once)
    migration.executor.carry_out(findings, plan, SOURCE)
    assert (tmp_path / "oneshot").read_text() == f"nixos-{migration.new.name}.conf"
    assert migration.default == migration.old


def test_a_repository_gets_a_commit_of_two_files_and_one_back(tmp_path: Path) -> None:
    migration = Migration(tmp_path, "flake-hosts", repository=True)
    (tmp_path / "etc/nixos/common/default.nix").open("a").write("# in the middle of something\n")
    (tmp_path / "etc/nixos/secret.txt").write_text("mine")
    findings, plan = migration.look(once)
    migration.executor.carry_out(findings, plan, SOURCE)
    assert migration.git("show", "--stat=200", "--format=%s").splitlines()[0].startswith("Make this host")
    shown = migration.git("show", "--name-only", "--format=").split()
    assert shown == ["hosts/box/default.nix", "hosts/box/hyper-nixos.nix"]
    # What somebody was in the middle of is still theirs.
    assert migration.git("status", "--porcelain").splitlines() == [" M common/default.nix", "?? secret.txt"]
    migration.executor.undo()
    assert migration.git("diff", "--name-only", "HEAD~2", "HEAD") == ""
    assert migration.git("status", "--porcelain").splitlines() == [" M common/default.nix", "?? secret.txt"]


def test_a_copy_holds_only_what_git_knows(tmp_path: Path) -> None:
    migration = Migration(tmp_path, "flake-one", repository=True)
    (tmp_path / "etc/nixos/secret.key").write_text("secret")
    findings, plan = migration.look()
    with migration.executor.changed_copy(findings.configuration, plan) as folder:
        assert not (folder / "secret.key").exists()
        assert (folder / FILE).exists()
        assert IMPORT in (folder / "configuration.nix").read_text()
    assert IMPORT not in (tmp_path / "etc/nixos/configuration.nix").read_text()


def test_what_does_not_build_changes_nothing(tmp_path: Path) -> None:
    migration = Migration(tmp_path, "channel", repository=True)
    before, head = migration.files(), migration.git("rev-parse", "HEAD")
    migration.nix.broken = "a package is broken"
    findings, plan = migration.look()
    with pytest.raises(HyperError, match="does not build"):
        migration.executor.carry_out(findings, plan, SOURCE)
    assert (migration.files(), migration.git("rev-parse", "HEAD")) == (before, head)
    assert migration.git("status", "--porcelain") == ""


def test_a_boot_menu_that_cannot_be_written_takes_everything_back(tmp_path: Path) -> None:
    migration = Migration(tmp_path, "channel", repository=True)
    before = migration.files()
    (tmp_path / "broken-loader").touch()
    findings, plan = migration.look(once)
    with pytest.raises(HyperError, match="the configuration is as it was") as raised:
        migration.executor.carry_out(findings, plan, SOURCE)
    assert raised.value.code is Exit.step
    assert "no space left on device" in raised.value.why
    assert migration.files() == before
    assert migration.git("status", "--porcelain") == ""
    assert migration.git("diff", "HEAD~2", "HEAD") == ""
    assert (tmp_path / "nix/var/nix/profiles/system").resolve() == migration.old


@pytest.mark.parametrize("at", range(2, 7))
def test_a_connection_that_is_lost_takes_everything_back(tmp_path: Path, at: int) -> None:
    """The hang-up comes as a step begins, from the second on: the first only builds."""
    migration = Migration(tmp_path, "channel", repository=True)
    (migration.new / "counts").touch()
    before = migration.files()
    entries = migration.entries()
    findings, plan = migration.look()

    def lose(line: str) -> None:
        if line.startswith(f"{at}/6 "):
            os.kill(os.getpid(), signal.SIGHUP)

    executor = Executor(str(migration.base), migration.runner, migration.nix, lose)
    with pytest.raises(KeyboardInterrupt), ended_by_signals():
        executor.carry_out(findings, plan, SOURCE)
    assert migration.files() == before
    assert migration.git("status", "--porcelain") == ""
    assert (tmp_path / "nix/var/nix/profiles/system").resolve() == migration.old == migration.default
    assert migration.entries() == entries
    assert not (tmp_path / TRIAL.lstrip("/")).exists()


def test_a_file_that_changed_since_the_look_stops_it(tmp_path: Path) -> None:
    migration = Migration(tmp_path, "channel")
    findings, plan = migration.look()
    (tmp_path / "etc/nixos/configuration.nix").open("a").write("# later\n")
    with pytest.raises(HyperError, match="changed meanwhile"):
        migration.executor.carry_out(findings, plan, SOURCE)
    assert not (tmp_path / "etc/nixos" / FILE).exists()


def test_undo_keeps_what_was_changed_since(tmp_path: Path) -> None:
    migration = Migration(tmp_path, "channel")
    (migration.new / "counts").touch()
    findings, plan = migration.look()
    migration.executor.carry_out(findings, plan, SOURCE)
    (tmp_path / TRIAL.lstrip("/")).rename(tmp_path / DONE.lstrip("/"))
    theirs = tmp_path / "etc/nixos/configuration.nix"
    theirs.write_text(
        theirs.read_text().replace("time.timeZone", 'i18n.defaultLocale = "de";\n  time.timeZone')
    )
    ours = tmp_path / "etc/nixos" / FILE
    ours.write_text(ours.read_text() + "# my own line\n")
    migration.executor.undo()
    assert "i18n.defaultLocale" in theirs.read_text()
    assert IMPORT not in theirs.read_text()
    assert "# my own line" in ours.with_suffix(".nix.undone").read_text()


def test_undo_leaves_the_generations_as_they_were_and_a_second_try_is_counted_anew(tmp_path: Path) -> None:
    """The same configuration builds the same system: its entry, used up by the first try, must not be found again."""
    migration = Migration(tmp_path, "channel")
    (migration.new / "counts").touch()
    profiles = tmp_path / "nix/var/nix/profiles"
    before = sorted(link.name for link in profiles.iterdir())
    for _ in range(2):
        findings, plan = migration.look()
        migration.executor.carry_out(findings, plan, SOURCE)
        assert (profiles / "system").resolve() == migration.new
        # The old system has no hv: this one is there until there is nothing to undo.
        program = tmp_path / PROGRAM.lstrip("/")
        assert program.readlink() == migration.new / "sw/bin/hv"
        migration.executor.undo()
        assert not program.is_symlink()
        assert sorted(link.name for link in profiles.iterdir()) == before
        assert (profiles / "system").resolve() == migration.old == migration.default


def test_nothing_to_undo(tmp_path: Path) -> None:
    with pytest.raises(HyperError, match="no migration to undo"):
        Migration(tmp_path, "channel").executor.undo()


def test_an_import_that_has_no_effect_is_noticed(tmp_path: Path) -> None:
    """A wizard that says done and changed nothing."""
    migration = Migration(tmp_path, "channel")
    findings, plan = migration.look()
    with pytest.raises(HyperError, match="the import had no effect"):
        migration.executor.preview(findings, plan)  # the recorded summary stays what it was
