"""Nobody locked out: keys and hashes are looked at, and every way in is known in both phases."""

import base64
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from installer.answers.login import Way, accesses, lockout, require_login
from installer.answers.model import Answers, Phase
from installer.answers.password_hash import hash_fault
from installer.answers.ssh_key import TYPES, parse_ssh_key
from installer.answers.ssh_policy import ED25519, sshd_settings, takes_key
from installer.errors import Exit, HyperError
from installer.logins import SIGNATURES
from tests.nixeval.sshd import sshd_lines

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIdwULbT1sBmicY+BuQAax9uWakoQGrJI/raZywv7hUf anna@desk"
HASH = "$y$j9T$H3eyyY4Tv4hzGBR8ybuhB.$3jZduENmF4HEsB03IPecO9mznGE9136xjC59tQf/i0C"
HASHES = {  # as mkpasswd(1) printed them
    "yescrypt": HASH,
    "gost-yescrypt": "$gy$j9T$d1JEFYvJVxXU6YBww/qmO/$OvDortii9c1t4bR/Hibw1U7U8MItQk2Ds.wrznGav3/",
    "scrypt": "$7$CU..../....8Q7nIPvy9iyJ3fRUVGeIM/$YOwkg3d0v1JebKwup4GW/FD1C/op7iOL.CBf1569wB4",
    "sha512crypt": "$6$SGozakV.rV439TzI$K2OQpGPN4LDCo/5GrfaXX2yx9yjYFQ1ecRRa6DkdXEnqBo3YqMYr6MRXrhwneikD51lG2C2L"
    "U87FNapC8k/3b/",
    "bcrypt": "$2b$05$/nELWqS7TYHeofOjEupoP.op.Ado8Q5wBi2ZX73XwbKx0PIPQMm8G",
}


def _answers(*users: dict[str, Any], **fields: Any) -> Answers:
    return Answers.model_validate(
        {"version": 1, "hostname": "kvm1", "storage": {"disk": {"serial": "x"}}, "users": users, **fields}
    )


# Hashes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", HASHES)
def test_hashes_of_strong_kinds_are_taken(kind: str) -> None:
    assert hash_fault(HASHES[kind]) is None


@pytest.mark.parametrize("kind", HASHES)
def test_a_cut_or_lengthened_hash_is_refused(kind: str) -> None:
    assert hash_fault(HASHES[kind][:-1])
    assert hash_fault(HASHES[kind] + "\n")
    assert hash_fault(HASHES[kind] + ":")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "is empty"),
        ("!", "locked"),
        ("*", "locked"),
        ("!" + HASH, "locked"),
        ("correct-horse", "must never be written here"),
        ("$5$hd7SVpkAxwn7reRx$eSkp9VafbT2yEVMFdcjjNgbQgkLUv7Z9PnD1LipFki/", "kind $5$"),
        ("$1$kVVTDMBu$3EMX4UYi9dD2X7n/SBcd6/", "kind $1$"),
    ],
)
def test_other_hashes_are_refused_with_a_reason(text: str, fault: str) -> None:
    assert fault in (hash_fault(text) or "")


@given(st.text(min_size=8, max_size=40))
def test_a_fault_never_repeats_the_hash(text: str) -> None:
    assert text not in (hash_fault(text) or "")


# Keys -------------------------------------------------------------------------------------------------------------


def _line(kind: str, *parts: bytes, inner: str = "") -> str:
    blob = b"".join(len(part).to_bytes(4, "big") + part for part in ((inner or kind).encode(), *parts))
    return f"{kind} {base64.b64encode(blob).decode()} anna@desk"


def _made(tmp_path: Path, *options: str) -> str:
    file = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-N", "", "-f", file, *options], check=True)
    return file.with_suffix(".pub").read_text().strip()


@pytest.mark.parametrize(
    "options",
    [
        ("-t", "ed25519"),
        ("-t", "rsa", "-b", "2048"),
        *(("-t", "ecdsa", "-b", bits) for bits in ("256", "384", "521")),
    ],
    ids="-".join,
)
def test_keys_that_openssh_makes_are_taken(tmp_path: Path, options: tuple[str, ...]) -> None:
    line = _made(tmp_path, *options, "-C", "anna at her desk")
    key = parse_ssh_key(line)
    assert (key.kind, key.comment, key.limits) == (line.split()[0], "anna at her desk", ())
    assert parse_ssh_key(f'environment="A=b \\"c\\" d",no-x11-forwarding {line}') == key
    assert parse_ssh_key(f'from="192.0.2.0/24",no-pty,pty {line}').limits == ("from", "no-pty")


def test_keys_of_tokens_are_taken() -> None:
    assert parse_ssh_key(_line(TYPES[-2], bytes(32), b"ssh:")).kind == TYPES[-2]
    assert parse_ssh_key(_line(TYPES[-1], b"nistp256", b"\x04" + bytes(64), b"ssh:")).kind == TYPES[-1]


@pytest.mark.parametrize("cut", [1, 3, 4, 8])
def test_a_cut_key_of_a_token_is_refused(cut: int) -> None:
    kind, encoded, _ = _line(TYPES[-2], bytes(32), b"ssh:").split()
    with pytest.raises(ValueError, match=r"inside|lengths"):
        parse_ssh_key(f"{kind} {base64.b64encode(base64.b64decode(encoded)[:-cut]).decode()}")


def test_a_short_rsa_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="RSA key of 1024 bits; at least 2048"):
        parse_ssh_key(_made(tmp_path, "-t", "rsa", "-b", "1024"))


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("", "does not begin with a key type"),
        ("anna@desk", "does not begin with a key type"),
        ("from=x " + KEY, "does not begin with a key type"),
        ("ssh-ed25519", "has no key"),
        (KEY.replace("IIdw", "I!dw"), "not base64"),
        (KEY.replace("ssh-ed25519", "ssh-dss"), "DSA"),
        (KEY.replace("ssh-ed25519", "ssh-rsa"), "ssh-rsa outside and ssh-ed25519 inside"),
        (KEY + "\n" + KEY, "more than one line"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----", "private key"),
        (_line("ssh-ed25519", bytes(31)), "right lengths"),
        (_line("ssh-ed25519", bytes(32), b"more"), "right lengths"),
        (_line("ecdsa-sha2-nistp256", b"nistp384", b"\x04" + bytes(64)), "right lengths"),
        (_line("ecdsa-sha2-nistp256", b"nistp256", b"\x02" + bytes(64)), "right lengths"),
        (_line("ssh-rsa", b"\x01\x00\x01"), "right lengths"),
    ],
)
def test_other_keys_are_refused_with_a_reason(line: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        parse_ssh_key(line)


@given(st.integers(0, len(KEY) - 1), st.characters(codec="utf-8"))
def test_a_changed_key_is_refused_or_still_a_key(place: int, char: str) -> None:
    try:
        key = parse_ssh_key(KEY[:place] + char + KEY[place + 1 :])
    except ValueError as error:
        assert KEY.split()[1] not in str(error)
    else:
        assert len(key.blob) == 51


@given(st.text())
def test_any_text_is_judged_without_a_crash(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_ssh_key(text)


# Ways in ----------------------------------------------------------------------------------------------------------


def test_each_way_in_each_phase() -> None:
    answers = _answers(
        {"name": "both", "admin": True, "password_hash": HASH, "ssh_keys": [KEY]},
        {"name": "key", "ssh_keys": [KEY]},
        {"name": "neither"},
        ssh={"password_login": True},
    )
    both, key, neither = accesses(answers)
    assert both.ways == {
        Phase.setup: (Way.console, Way.ssh_password, Way.ssh_key),
        Phase.hardened: (Way.console, Way.ssh_key),
    }
    assert key.ways == {Phase.setup: (Way.ssh_key,), Phase.hardened: (Way.ssh_key,)}
    assert neither.ways == {Phase.setup: (), Phase.hardened: ()}
    assert neither.missing == ("is no administrator (`admin = true`)", "no password", "no SSH key")
    assert not lockout(answers)


@pytest.mark.parametrize(
    ("user", "fields", "reason"),
    [
        ({"admin": True}, {}, "no password; no SSH key"),
        ({"ssh_keys": [KEY]}, {}, "is no administrator"),
        ({"admin": True, "ssh_keys": [KEY]}, {"ssh": {"enable": False}}, "SSH is off"),
        ({"admin": True, "ssh_keys": ["restrict " + KEY]}, {}, "limited by `restrict`"),
        ({"admin": True, "password_hash": "!" + HASH}, {}, "locked"),
    ],
)
def test_a_lockout_names_each_user_with_what_is_missing(
    user: dict[str, Any], fields: dict[str, Any], reason: str
) -> None:
    (problem,) = lockout(_answers({"name": "anna", **user}, {"name": "boris"}, **fields))
    assert problem.code is Exit.lockout
    assert re.search(f"anna: .*{re.escape(reason)}", problem.wrong)
    assert "boris: " in problem.wrong


def test_hash_files_are_looked_at_before_writing() -> None:
    answers = _answers({"name": "anna", "admin": True, "password_hash_file": {"file": "/run/h"}})
    assert not lockout(answers)
    require_login(answers, {"/run/h": HASH + "\n"})
    for hashes, reason in (({}, "cannot be read"), ({"/run/h": "correct-horse"}, "is not a hash")):
        with pytest.raises(HyperError, match="nobody could log in") as caught:
            require_login(answers, hashes)
        assert caught.value.code is Exit.lockout
        assert reason in caught.value.why
        assert "correct-horse" not in str(caught.value)


def test_the_strictest_profile_takes_one_kind_of_key(tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run(("ssh-keygen", "-q", "-t", "rsa", "-b", "3072", "-N", "", "-f", key), check=True)
    rsa = key.with_suffix(".pub").read_text().strip()
    strict, paranoid = ({"security": {"profile": profile}} for profile in ("strict", "paranoid"))
    anna = {"name": "anna", "admin": True, "ssh_keys": [rsa]}
    assert not lockout(_answers(anna, **strict))
    (problem,) = lockout(_answers(anna, **paranoid))
    assert problem.wrong.startswith("nobody could log in as an administrator in phase `hardened`\n")
    assert "ssh_keys[0] is ssh-rsa; security.profile paranoid takes Ed25519 keys alone" in problem.wrong
    assert not lockout(_answers({**anna, "ssh_keys": [rsa, KEY]}, **paranoid))
    assert not lockout(_answers({**anna, "password_hash": HASH}, **paranoid))


@pytest.mark.parametrize("profile", ["development", "balanced", "strict", "paranoid"])
def test_kinds_of_key_are_those_of_the_evaluated_server(profile: str) -> None:
    lines = dict(line.split(" ", 1) for line in sshd_lines(profile))
    listed = lines.get("PubkeyAcceptedAlgorithms", "").split(",")
    answers = _answers({"name": "anna"}, security={"profile": profile})
    for kind in TYPES:
        taken = listed == [""] or any(each in listed for each in SIGNATURES.get(kind, (kind,)))
        assert takes_key(answers, Phase.hardened, kind) is taken, kind
        assert takes_key(answers, Phase.setup, kind)
    assert {*TYPES} > ED25519


def test_passwords_end_with_phase_setup() -> None:
    answers = _answers({"name": "anna"}, ssh={"password_login": True})
    assert sshd_settings(answers, Phase.setup)["PasswordAuthentication"] is True
    assert sshd_settings(answers, Phase.hardened)["PasswordAuthentication"] is False
