"""Who may do what: groups, sudo, polkit and sockets, as the host has them and as real programs read them."""

import json
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.nixeval import pages, phases
from tests.nixeval.host import MODULES, TOPLEVEL, Evaluated, evaluate
from tests.nixeval.phases import STATES
from tests.nixeval.units import EXAMPLE

ROLES: dict[str, Any] = json.loads(pages.ROLES.read_text())
FORBIDDEN: dict[str, str] = json.loads(pages.FORBIDDEN.read_text())
PATH = "/run/current-system/sw/bin/"


def example(select: str, *modules: str) -> Evaluated:
    """The example host with more modules."""
    return evaluate(select, [MODULES, EXAMPLE, *modules])


# sudo, as its own parser reads the rules.


def sudo_rules() -> list[dict[str, Any]]:
    """The rules of the evaluated sudoers, as JSON by cvtsudoers(1)."""
    text = (phases.FILES / "setup/sudoers").read_text()
    command = ("cvtsudoers", "--output-format", "json", "-")
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    return list(json.loads(done.stdout)["User_Specs"])


def commands_by_group() -> dict[str, list[str]]:
    """What each group may run, in order."""
    found: dict[str, list[str]] = {}
    for rule in sudo_rules():
        allowed = [each["command"] for spec in rule["Cmnd_Specs"] for each in spec["Commands"]]
        for who in rule["User_List"]:
            found.setdefault(next(iter(who.values())), []).extend(allowed)
    return found


def test_sudo_lets_each_role_do_what_the_table_says() -> None:
    found = commands_by_group()
    assert found.pop("root") == ["ALL"]
    assert found.pop("wheel") == ["ALL"]
    wanted = {
        role["group"]: [PATH + " ".join(words) for words in role["commands"]]
        for role in ROLES.values()
        if role["commands"]
    }
    assert found == wanted


def test_sudo_has_no_wildcards_and_no_password_is_forgotten() -> None:
    rules = [rule for rule in sudo_rules() if {"usergroup": "hv-admins"} in rule["User_List"]]
    assert rules
    for rule in rules:
        for spec in rule["Cmnd_Specs"]:
            assert spec["runasusers"] == [{"username": "root"}]
            assert "authenticate" not in json.dumps(spec.get("Options", []))
            for each in spec["Commands"]:
                # A command without arguments in its rule takes any: each names them all.
                assert re.fullmatch(rf"{PATH}[a-z-]+( [a-z-]+)+", each["command"])


def test_nothing_that_sudo_starts_for_a_role_shows_pages() -> None:
    """A pager or an editor under sudo is a root shell (less(1): `!`)."""
    first = {tuple(words[:2]) for role in ROLES.values() for words in role["commands"]}
    assert first <= {
        ("systemctl", "reboot"),
        ("systemctl", "poweroff"),
        ("nixos-rebuild", "switch"),
        ("nixos-rebuild", "boot"),
        ("hv", "firstrun"),
        ("hv", "net"),
    }


SUDO = """
work=$1
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs /run
for file in passwd group; do
    { cat /etc/$file; cat "$work/$file"; } >"$work/all-$file"
    mount --bind "$work/all-$file" /etc/$file
done
for file in sudoers pam.d/sudo; do
    chown root:root "$work/$file"
    chmod 440 "$work/$file"
    mount --bind "$work/$file" /etc/$file
done
mkdir -p /run/system /run/path/bin /run/tools
ln -s /run/system /run/current-system
ln -s /run/path /run/system/sw
for name in systemctl nixos-rebuild hv; do
    printf '#!/bin/sh\\necho "$(id -un) ran %s $*"\\n' $name >/run/tools/$name
    chmod 755 /run/tools/$name
    ln -s /run/tools/$name /run/path/bin/$name
done
while read -r who command; do
    PATH=/run/current-system/sw/bin:$PATH setpriv --reuid $who --init-groups sudo $command </dev/null 2>/dev/null || echo refused
done <"$work/asked"
"""
"""The real sudo with the evaluated rules, on the folders of NixOS; nobody has to give a password."""
PERMIT = "auth sufficient pam_permit.so\naccount sufficient pam_permit.so\nsession optional pam_permit.so\n"
DONE = {
    "ada systemctl reboot": "root ran systemctl reboot",
    "ada /run/current-system/sw/bin/systemctl poweroff": "root ran systemctl poweroff",
    "ada systemctl poweroff now": "refused",
    "ada systemctl": "refused",
    "ada systemctl status": "refused",
    "ada nixos-rebuild switch": "root ran nixos-rebuild switch",
    "ada nixos-rebuild switch --rollback": "root ran nixos-rebuild switch --rollback",
    "ada nixos-rebuild switch --flake /tmp/x": "refused",
    "ada NIXOS_CONFIG=/tmp/x nixos-rebuild switch": "refused",
    "ada -u bob systemctl reboot": "refused",
    "ada hv firstrun run": "root ran hv firstrun run",
    "ada hv firstrun skip phase": "refused",
    "ada sh -c id": "refused",
    "ada -s": "refused",
    "oscar systemctl reboot": "refused",
    "bob sh -c id": "refused",
    "alice sh -c whoami": "root",
}
"""Who asks for what, and what comes of it: alice is in wheel, ada in hv-admins, oscar in hv-operators, bob in none."""


@pytest.mark.root
def test_sudo_itself_does_that_and_no_more() -> None:
    people = ("alice", "ada", "oscar", "bob")
    files = {
        "sudoers": (phases.FILES / "strict/sudoers").read_text(),
        "pam.d/sudo": PERMIT,
        "passwd": "".join(f"{name}:x:{4000 + at}:4000::/:/bin/sh\n" for at, name in enumerate(people)),
        "group": "people:x:4000:\nwheel:x:4011:alice\nhv-admins:x:4012:ada\nhv-operators:x:4013:oscar\n",
        "asked": "".join(f"{line}\n" for line in DONE),
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            (Path(folder) / name).parent.mkdir(exist_ok=True)
            (Path(folder) / name).write_text(text)
        command = ("unshare", "--mount", "bash", "-ec", SUDO, "bash", folder)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert dict(zip(DONE, done.stdout.splitlines(), strict=True)) == DONE


# polkit: its rules are JavaScript, run here by the engine that polkit has (Duktape).

ENGINE = """
var rules = [];
var polkit = {
  Result: { NO: "no", YES: "yes", AUTH_ADMIN: "auth_admin", AUTH_ADMIN_KEEP: "auth_admin_keep", NOT_HANDLED: null },
  addRule: function (rule) { rules.push(rule); },
  addAdminRule: function () {},
  log: function () {},
};
function decide(id, user, groups) {
  var action = { id: id, lookup: function () {} };
  var subject = {
    user: user, groups: groups, local: true, active: true,
    isInGroup: function (group) { return groups.indexOf(group) >= 0; },
  };
  // polkit(8): rules in order until one answers; then the action's own default.
  for (var number = 0; number < rules.length; number++) {
    var answer = rules[number](action, subject);
    if (answer) return answer;
  }
  return "default";
}
"""


def polkit_decides(rules: str, asked: list[tuple[str, str, list[str]]], folder: Path) -> list[str]:
    """What the rules say for each action, user and groups."""
    script = folder / "rules.js"
    script.write_text(
        f"{ENGINE}\n{rules}\n{json.dumps(asked)}.forEach("
        "function (each) { print(decide(each[0], each[1], each[2])); });\n"
    )
    done = subprocess.run(("duk", script), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.split()


LIBVIRT = ("org.libvirt.unix.manage", "org.libvirt.unix.monitor", "org.libvirt.api.domain.save")
PEOPLE = [
    ("alice", ["wheel", "hv-admins"]),
    ("bob", ["libvirtd"]),  # however he got there
    ("carol", ["hv-operators", "hv-owners"]),
    ("dave", ["users"]),
    ("qemu-libvirtd", ["qemu-libvirtd", "kvm"]),
]


@pytest.mark.parametrize("state", STATES)
def test_polkit_keeps_everybody_but_the_broker_from_libvirt(state: str, tmp_path: Path) -> None:
    rules = (phases.FILES / state / "polkit.rules").read_text()
    asked = [(action, name, groups) for action in LIBVIRT for name, groups in PEOPLE]
    assert polkit_decides(rules, asked, tmp_path) == ["no"] * len(asked)
    allowed = [(action, name, [name]) for action in LIBVIRT for name in ("root", "hvd")]
    assert polkit_decides(rules, allowed, tmp_path) == ["yes"] * len(allowed)


def test_polkit_says_nothing_of_other_actions(tmp_path: Path) -> None:
    rules = (phases.FILES / "setup/polkit.rules").read_text()
    others = ["org.freedesktop.login1.reboot", "org.libvirtual.x", "com.example.org.libvirt.x"]
    asked = [(action, name, groups) for action in others for name, groups in PEOPLE]
    assert polkit_decides(rules, asked, tmp_path) == ["default"] * len(asked)


def test_without_our_rule_the_group_would_get_in(tmp_path: Path) -> None:
    """That libvirt's rule is there, after ours, and that this test would notice."""
    rules = (phases.FILES / "setup/polkit.rules").read_text()
    ours, theirs = rules.index('indexOf("org.libvirt.")'), rules.index('isInGroup("libvirtd")')
    assert ours < theirs
    only_theirs = rules[rules.rindex("polkit.addRule") :]
    assert polkit_decides(only_theirs, [(LIBVIRT[0], "bob", ["libvirtd"])], tmp_path) == ["yes"]


POLKITD = """
work=$1
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir -p /run/dbus
for file in passwd group; do
    { cat /etc/$file; cat "$work/$file"; } >"$work/all-$file"
    mount --bind "$work/all-$file" /etc/$file
done
mount --bind "$work/rules" /etc/polkit-1/rules.d
mount -t tmpfs tmpfs /usr/share/polkit-1/rules.d
mount --bind "$work/actions" /usr/share/polkit-1/actions
chmod -R a+rX "$work/rules" "$work/actions"
dbus-daemon --system --fork --nopidfile
$(ls /usr/lib/polkit-1/polkitd /usr/libexec/polkitd 2>/dev/null | head -n 1) --no-debug >"$work/log" 2>&1 &
until dbus-send --system --print-reply --dest=org.freedesktop.PolicyKit1 / org.freedesktop.DBus.Peer.Ping >/dev/null 2>&1
do kill -0 $!; done
for who in root hvd bob carol; do
    setpriv --reuid $who --init-groups sh -c 'exec pkcheck --action-id org.libvirt.unix.manage --process $$' >/dev/null 2>&1 \\
        && echo $who || true
done
"""
"""polkit's real daemon on a bus of its own, with these rules, people and libvirt's action; prints who is let in."""
ACTION = """<?xml version="1.0"?>
<policyconfig><action id="org.libvirt.unix.manage">
  <description>x</description><message>x</message>
  <defaults>
    <allow_any>auth_admin_keep</allow_any><allow_inactive>auth_admin_keep</allow_inactive>
    <allow_active>auth_admin_keep</allow_active>
  </defaults>
</action></policyconfig>
"""


def let_in(rules: str, folder: Path) -> list[str]:
    """Whom the real polkitd lets reach libvirt: bob is in its group, carol in a role's."""
    for name, text in {
        "rules/10-nixos.rules": rules,
        "actions/org.libvirt.unix.policy": ACTION,
        "passwd": "hvd:x:4001:4001::/:/bin/sh\nbob:x:4002:4002::/:/bin/sh\ncarol:x:4003:4003::/:/bin/sh\n",
        "group": "hvd:x:4001:\nbob:x:4002:\ncarol:x:4003:\nlibvirtd:x:4010:hvd,bob\nhv-operators:x:4011:carol\n",
    }.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    command = (
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "bash",
        "-ec",
        POLKITD,
    )
    done = subprocess.run(
        (*command, "bash", folder), capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr + (folder / "log").read_text()
    return done.stdout.split()


@pytest.mark.root
def test_polkits_own_daemon_decides_the_same() -> None:
    rules = (phases.FILES / "setup/polkit.rules").read_text()
    with tempfile.TemporaryDirectory() as ours, tempfile.TemporaryDirectory() as theirs:
        for folder in (ours, theirs):
            Path(folder).chmod(0o755)  # polkitd gives up its rights before it reads
        assert let_in(rules, Path(ours)) == ["root", "hvd"]
        only_theirs = rules[rules.rindex("polkit.addRule") :]
        assert let_in(only_theirs, Path(theirs)) == ["root", "hvd", "bob"]


# The evaluated host.

TEAM = """{ users.users =
  let person = groups: { isNormalUser = true; extraGroups = groups; };
  in {
    vera = person [ "hv-viewers" ];
    oscar = person [ "hv-operators" ];
    olga = person [ "hv-owners" ];
    aaron = person [ "hv-auditors" ];
    ada = person [ "hv-admins" ];
    nobody-special = person [ ];
  };
}"""


@pytest.mark.nixpkgs
def test_groups_follow_from_roles() -> None:
    select = """host: {
      groups = builtins.mapAttrs (_: group: builtins.sort builtins.lessThan group.members) host.config.users.groups;
      wrapper = { inherit (host.config.security.wrappers.sudo) group permissions; };
      hvd = { inherit (host.config.users.users.hvd) isSystemUser group extraGroups; };
    }"""
    host = example(select, TEAM)
    assert (host.failed_assertions, host.warnings) == ((), ())
    groups = host.value["groups"]
    assert {role["group"] for role in ROLES.values()} <= groups.keys()
    assert groups["hv-users"] == ["aaron", "ada", "olga", "oscar", "vera"]
    assert groups["systemd-journal"] == ["aaron", "ada"]
    for group in FORBIDDEN.keys() & groups.keys():
        assert {*groups[group]} <= {"hvd", "qemu-libvirtd"}, group
    assert groups["libvirtd"] == ["hvd"]
    assert host.value["hvd"] == {"isSystemUser": True, "group": "hvd", "extraGroups": ["libvirtd"]}
    # ada has rules and is not in wheel.
    assert host.value["wrapper"] == {"group": "root", "permissions": "u+rx,g+x,o+x"}
    alone = example("host: { inherit (host.config.security.wrappers.sudo) group permissions; }").value
    assert alone == {"group": "wheel", "permissions": "u+rx,g+x"}


@pytest.mark.nixpkgs
def test_sockets_of_libvirt_are_closed_and_qemu_is_nobody() -> None:
    select = """host: let
      inherit (host.config.systemd) sockets;
      access = name: { mode = sockets.${name}.socketConfig.SocketMode; group = sockets.${name}.socketConfig.SocketGroup or "root"; };
    in {
      sockets = builtins.listToAttrs (map (name: { inherit name; value = access name; })
        [ "libvirtd" "libvirtd-ro" "libvirtd-admin" "virtlogd" "virtlockd" ]);
      network = builtins.filter (name: sockets ? ${name}) [ "libvirtd-tcp" "libvirtd-tls" ];
      inherit (host.config.virtualisation.libvirtd.qemu) runAsRoot;
      dbus = host.config.virtualisation.libvirtd.dbus.enable;
    }"""
    found = example(select).value
    for name, access in found["sockets"].items():
        assert access["mode"] in {"0660", "0600"}, name
        assert access["group"] in {"libvirtd", "root"}, name
        assert access["mode"] == "0600" or access["group"] == "libvirtd", name
    assert (found["network"], found["runAsRoot"], found["dbus"]) == ([], False, False)


SETUID = {
    "mount": "users' own entries in fstab",
    "newgidmap": "rootless containers",
    "newuidmap": "rootless containers",
    "passwd": "not in strict",
    "su": "by password",
    "sudo": "by rule",
    "sudoedit": "by rule",
    "umount": "users' own entries in fstab",
    "unix_chkpwd": "PAM: one's own password",
    "chsh": "not in strict",
    "newgrp": "not in strict",
    "sg": "not in strict",
}
"""Programs that run with more rights than their caller, and what for."""


@pytest.mark.nixpkgs
def test_no_other_program_runs_with_more_rights_than_its_caller() -> None:
    select = """host: let
      wrappers = config: builtins.filter (name: config.security.wrappers.${name}.enable)
        (builtins.attrNames config.security.wrappers);
      strict = host.extendModules {
        modules = [ { hypervisor.phase = "hardened"; hypervisor.security.profile = "strict"; } ];
      };
    in [ (wrappers host.config) (wrappers strict.config) ]"""
    setup, strict = example(select, '{ hypervisor.tier = "enterprise"; }').value
    assert {*setup} == SETUID.keys()
    assert {*strict} == {name for name, why in SETUID.items() if why != "not in strict"}


@pytest.mark.nixpkgs
def test_the_broker_is_there_unless_it_is_switched_off() -> None:
    select = """host: let inherit (host.config.systemd) services sockets; in {
      socket = sockets.hvd.socketConfig or null;
      listens = sockets.hvd.listenStreams or [ ];
      service = services.hvd.serviceConfig or null;
    }"""
    without = example(select, "{ hypervisor.privileges.broker.enable = false; }")
    assert without.value == {"socket": None, "listens": [], "service": None}
    assert (without.failed_assertions, without.warnings) == ((), ())
    host = example(select)
    assert (host.failed_assertions, host.warnings) == ((), ())
    assert host.value["listens"] == ["/run/hvd/hvd.sock"]
    assert (host.value["socket"]["SocketMode"], host.value["socket"]["SocketGroup"]) == ("0660", "hv-users")
    # Peer credentials come through a user namespace as nobody's.
    assert "PrivateUsers" not in host.value["service"]


@pytest.mark.nixpkgs
def test_privileges_alone() -> None:
    module = "{ lib, ... }: { hypervisor.enable = lib.mkForce false; hypervisor.privileges.enable = true; }"
    select = f"host: {{ drv = ({TOPLEVEL}) host; polkit = host.config.users.groups ? hv-users; }}"
    found = example(select, module)
    assert found.value["drv"].endswith(".drv")
    assert (found.value["polkit"], found.failed_assertions, found.warnings) == (True, (), ())


@pytest.mark.nixpkgs
def test_each_assertion_fires_and_only_then() -> None:
    def grouped(group: str) -> str:
        return f'{{ users.groups.{group} = {{ }}; users.users.alice.extraGroups = [ "wheel" "{group}" ]; }}'

    cases = {
        f"in {group}": ([grouped(group)], f"alice is in the group {group}, which") for group in FORBIDDEN
    }
    cases |= {
        "by the group's members": (
            ['{ users.groups.libvirtd.members = [ "alice" ]; }'],
            "alice is in the group",
        ),
        "by the primary group": (["{ users.users.alice.group = ''disk''; }"], "alice is in the group disk"),
        "said to be meant": (
            [grouped("input"), '{ hypervisor.privileges.exceptions.alice = [ "input" ]; }'],
            "",
        ),
        "meant for another": (
            [grouped("input"), '{ hypervisor.privileges.exceptions.bob = [ "input" ]; }'],
            "alice is in the group input",
        ),
        "in kvm": ([grouped("kvm")], ""),
        "a broker without a program": (
            ["{ hypervisor.privileges.broker.program = null; }"],
            "there is no program to run",
        ),
        "none that has no program": (
            ["{ hypervisor.privileges.broker = { enable = false; program = null; }; }"],
            "",
        ),
        "QEMU as root": (
            ["({ lib, ... }: { virtualisation.libvirtd.qemu.runAsRoot = lib.mkForce true; })"],
            "QEMU would run as root",
        ),
    }
    listed = "".join(f'"{name}" = [ {" ".join(modules)} ];\n' for name, (modules, _) in cases.items())
    select = f"""host: let
      failed = modules: builtins.concatMap (entry: if entry.assertion then [ ] else [ entry.message ])
        (host.extendModules {{ inherit modules; }}).config.assertions;
    in builtins.mapAttrs (_: failed) {{ {listed} }}"""
    found = example(select).value
    for name, (_, said) in cases.items():
        assert len(found[name]) == bool(said), (name, found[name])
        assert all(said in message for message in found[name]), (name, found[name])
