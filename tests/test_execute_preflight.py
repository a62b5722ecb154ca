"""What is refused or told before anything is written: clocks, and the system's own size and wholeness."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from installer.answers.sizes import GIB
from installer.errors import Exit, HyperError
from installer.execute.live import LiveSystem
from installer.execute.preflight import check_clock
from installer.medium import Medium
from tests import plan_cases as cases
from tests.execute.ready import ready_rig

MADE = datetime(2026, 5, 31, tzinfo=UTC)
ONLINE = cases.answers()
OFFLINE = cases.answers(system={"offline": True})


def dated() -> Medium:
    flake = cases.flake("nixpkgs")
    return cases.medium(
        nixpkgs=flake.model_copy(update={"locked": flake.locked | {"lastModified": int(MADE.timestamp())}})
    )


def live(folder: Path, hardware: datetime | None) -> LiveSystem:
    clock = folder / "class/rtc/rtc0"
    clock.mkdir(parents=True)
    if hardware:
        (clock / "since_epoch").write_text(f"{int(hardware.timestamp())}\n")
    return LiveSystem(sysfs=folder)


@pytest.mark.parametrize("hardware", [None, MADE, MADE.replace(hour=12)])
def test_a_right_clock_says_nothing(tmp_path: Path, hardware: datetime | None) -> None:
    medium = dated()
    assert check_clock(ONLINE, medium, live(tmp_path, hardware), MADE) == []


def test_a_clock_of_years_ago_is_refused_where_the_network_is_needed(tmp_path: Path) -> None:
    medium = dated()
    now = datetime(2009, 1, 1, tzinfo=UTC)
    with pytest.raises(HyperError) as caught:
        check_clock(ONLINE, medium, live(tmp_path, None), now)
    assert caught.value.code is Exit.unsuitable
    assert "2009-01-01" in caught.value.why
    assert "2026-05-31" in caught.value.remedy
    (warning,) = check_clock(OFFLINE, medium, LiveSystem(sysfs=tmp_path), now)
    assert "The clock is wrong" in warning


def test_a_clock_years_ahead_is_told(tmp_path: Path) -> None:
    medium = dated()
    (warning,) = check_clock(ONLINE, medium, live(tmp_path, None), datetime(2040, 1, 1, tzinfo=UTC))
    assert "2040-01-01" in warning
    assert "ahead" in warning


def test_a_hardware_clock_of_its_own_is_told(tmp_path: Path) -> None:
    medium = dated()
    (warning,) = check_clock(ONLINE, medium, live(tmp_path, datetime(2009, 1, 1, tzinfo=UTC)), MADE)
    assert "The hardware clock says 2009-01-01, the system's 2026-05-31" in warning
    assert "hwclock --systohc" in warning


@pytest.mark.root
@pytest.mark.nix
def test_a_system_that_is_not_there_whole_or_does_not_fit_is_refused_before_the_first_write(
    tmp_path: Path,
) -> None:
    with ready_rig(tmp_path) as ready:
        before = ready.disk.digest()
        gone = f"/nix/store/{'3' * 32}-nixos-system-gone"
        medium = ready.medium.model_copy(
            update={"closures": (ready.medium.closures[0].model_copy(update={"toplevel": gone}),)}
        )
        (tmp_path / "medium.json").write_text(medium.model_dump_json())
        refused = ready.space.install(ready.rig)
        assert refused.returncode == Exit.unsuitable, refused.stdout + refused.stderr
        assert "is not there whole" in refused.stderr
        # The medium says 16 MiB, and there are 4 GiB: what it says is not taken for granted.
        script = tmp_path / "bin/nix"
        real = script.read_text().removeprefix("#!/bin/sh\n")
        lie = f'[ "$1" != path-info ] || {{ echo \'{{"{ready.toplevel}": {{"narSize": {4 * GIB}}}}}\'; exit; }}\n'
        script.write_text("#!/bin/sh\n" + lie + real)
        (tmp_path / "medium.json").write_text(ready.medium.model_dump_json())
        refused = ready.space.install(ready.rig)
        assert refused.returncode == Exit.unsuitable, refused.stdout + refused.stderr
        assert "4 GiB" in refused.stderr
        assert ready.disk.digest() == before
        assert not ready.journal.events
