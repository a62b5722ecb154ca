"""The installer's own share of an installation, from its log."""

import pytest

from tests.lab.timing import Timing, timing

LOG = """\
2026-11-26T11:00:00.000+00:00 $ sfdisk --dump /dev/vda
2026-11-26T11:00:05.000+00:00 = 1 after 5.00 s
2026-11-26T11:00:10.000+00:00 $ wipefs --all --backup /dev/vda
2026-11-26T11:00:12.000+00:00 = 0 after 2.00 s
2026-11-26T11:00:13.000+00:00 [a] $ mkfs.ext4 /dev/vda1
2026-11-26T11:00:14.000+00:00 [b] $ mkfs.ext4 /dev/vdb1
2026-11-26T11:00:15.000+00:00 [a] | done
2026-11-26T11:00:16.000+00:00 [a] = 0 after 3.00 s
2026-11-26T11:00:17.500+00:00 [b] = 0 after 3.50 s
2026-11-26T11:00:18.000+00:00 # format-root: ext4
2026-11-26T11:00:19.000+00:00 $ nix copy
2026-11-26T11:00:20.000+00:00 = 0 after 1.00 s
"""


def test_side_by_side_counts_once() -> None:
    """From the first write at 10 s to 20 s; programs ran for 2, 4.5 and 1 of these."""
    found = timing(LOG)
    assert found == Timing(10.0, 7.5)
    assert f"{found}" == "10 s from the first write to the last sync, 1.33 times what programs took"


def test_a_log_without_a_write_is_told() -> None:
    with pytest.raises(ValueError, match="no program that writes"):
        timing(LOG[:120])
