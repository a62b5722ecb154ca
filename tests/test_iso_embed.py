"""The embed area: what is written is read back, and what is damaged is refused with a reason."""

import hashlib
import io
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from installer import embed
from installer.errors import Exit, HyperError
from installer.fetch import chain, world
from iso import login
from tests.nixeval.nix import REPOSITORY

FILES = {"answers.toml": b"version = 1\n", "authorized_keys": b"ssh-ed25519 AAAA", "secrets/disk": b"\0\xff"}
NAMES = st.sampled_from([*embed.LOOSE, "secrets/disk", "secrets/a.hash"])


@given(st.dictionaries(NAMES, st.binary(max_size=2000)))
def test_what_is_packed_comes_out(files: dict[str, bytes]) -> None:
    area = embed.pack(files)
    assert len(area) == embed.AREA
    assert embed.unpack(area) == files
    assert embed.pack(dict(reversed(files.items()))) == area


def test_the_layout_is_the_documented_one() -> None:
    area = embed.pack(FILES)
    length = int.from_bytes(area[24:32], "little")
    assert area[:16] == b"HYPER-NIXOS-EMBD"
    assert (int.from_bytes(area[16:20], "little"), int.from_bytes(area[20:24], "little")) == (1, 0)
    assert area[32:64] == hashlib.sha256(area[:32] + area[64 : 64 + length]).digest()
    assert not any(area[64 + length :])
    # An archive that the field's own tool reads.
    done = subprocess.run(["tar", "-tf", "-"], input=area[64 : 64 + length], capture_output=True, check=True)
    assert done.stdout.decode().split() == sorted(FILES)


def test_the_medium_is_built_with_an_empty_area() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "installer.embed"], cwd=REPOSITORY, capture_output=True, check=True
    )
    assert done.stdout == embed.pack({})
    assert embed.unpack(done.stdout) == {}


def refused(area: bytes) -> str:
    with pytest.raises(HyperError) as error:
        embed.unpack(area)
    assert error.value.code is Exit.record
    return error.value.why


@pytest.mark.parametrize("place", [*range(16, 64), 64, 600, 64 + 1024])
def test_each_flipped_bit_that_matters_is_noticed(place: int) -> None:
    area = bytearray(embed.pack(FILES))
    area[place] ^= 1
    assert refused(bytes(area))


@pytest.mark.parametrize(
    ("area", "why"),
    [
        (b"", "0 bytes instead of"),
        (embed.pack(FILES)[:-1], "bytes instead of"),
        (b"\0" * embed.AREA, "does not begin as one"),
        (b"X" + embed.pack(FILES)[1:], "does not begin as one"),
        (embed.pack(FILES)[:64] + embed.pack({})[64:], "checksum"),
        (embed.pack(FILES)[:24] + b"\xff" * 8 + embed.pack(FILES)[32:], "there is room for"),
        (embed.pack(FILES)[:16] + b"\2\0\0\0" + embed.pack(FILES)[20:], "format 2"),
        (embed.pack(FILES)[:20] + b"\1\0\0\0" + embed.pack(FILES)[24:], "flags 0x1"),
    ],
)
def test_what_is_no_area_is_refused_with_the_reason(area: bytes, why: str) -> None:
    assert why in refused(area)


def made(*members: tarfile.TarInfo) -> bytes:
    """An area with a right checksum over an archive of these members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(b"x" * member.size))
    return sealed(buffer.getvalue())


def sealed(payload: bytes) -> bytes:
    summed = embed.HEADER.pack(embed.MAGIC, 1, 0, len(payload), b"")[: embed.SUMMED]
    return (summed + hashlib.sha256(summed + payload).digest() + payload).ljust(embed.AREA, b"\0")


def member(name: str, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = "/etc/shadow"
    return info


@pytest.mark.parametrize(
    "area",
    [
        made(member("../../etc/passwd")),
        made(member("/etc/passwd")),
        made(member("secrets/../answers.toml")),
        made(member("secrets/.hidden")),
        made(member("answers.toml", tarfile.SYMTYPE)),
        made(member("answers.toml", tarfile.DIRTYPE)),
        made(member("answers.toml"), member("answers.toml")),
        sealed(b"no archive"),
    ],
)
def test_archives_that_lead_elsewhere_are_refused(area: bytes) -> None:
    assert refused(area)


def test_there_is_a_place_for_what_fetching_looks_for() -> None:
    assert {chain.SIGNERS, chain.CA, chain.TOKEN, "answers.toml"} <= {*embed.LOOSE, chain.TOKEN}
    assert embed.unpack(embed.pack({chain.TOKEN: b"token"})) == {chain.TOKEN: b"token"}
    assert world.LIVE.relative_to("/") == Path(login.FOLDER)


def test_too_much_is_refused() -> None:
    fits = embed.ROOM - 10240  # header, padding to 512, and the end of the archive, in records of 20 blocks
    assert embed.unpack(embed.pack({"answers.toml": b"x" * (fits // 10240 * 10240 - 512)}))
    with pytest.raises(HyperError, match="not taken") as error:
        embed.pack({"answers.toml": b"x" * embed.ROOM})
    assert "room for" in error.value.why


def test_the_kernel_argument_can_be_filled_in_place() -> None:
    argument = embed.kernel_argument()
    assert len(argument) == embed.ARGUMENT_LENGTH
    assert argument.strip("#") == embed.ARGUMENT
    # The kernel keeps arguments with a dot from init (admin-guide/kernel-parameters), and blanks would end it.
    assert "." in argument
    assert " " not in argument
