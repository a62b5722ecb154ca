"""The page of long tests' results: rows are read back as they were written, and fresh ones take the place of old ones."""

import re
from pathlib import Path

from tests.tested_layouts import PATH, Row, page, read, update

ROW = Row("test_layout[uefi-md-lvm]", "passed", "2026-01-02 03:04", "12:30", "2 of 2; a | b")


def test_rows_read_back_and_are_replaced(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    other = Row("test_power_cuts[md-lvm]", "FAILED", "2026-01-02 03:04", "1:05", "")
    update(path, [ROW, other])
    again = Row(ROW.name, "FAILED", "2026-01-03 03:04", "0:30", "")
    update(path, [again])
    assert read(path.read_text()) == (again, other)
    assert read(page([ROW]))[0].counted == "2 of 2; a / b"


def test_a_test_that_got_parameters_leaves_no_row_without(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    plain, other = (Row(name, "passed", "2026-01-02 03:04", "12:30", "") for name in ("test_b", "test_a[x]"))
    update(path, [plain, other])
    with_one, with_two = (Row(f"test_b[{each}]", "passed", "2026-01-03 03:04", "0:30", "") for each in "xy")
    update(path, [with_one, with_two])
    assert read(path.read_text()) == (other, with_one, with_two)
    update(path, [plain])
    assert read(path.read_text()) == (other, plain)


def test_the_page_in_the_tree_is_as_it_is_written() -> None:
    text = PATH.read_text(encoding="utf-8")
    assert page(read(text)) == text


def test_every_row_is_of_a_test_that_there_is() -> None:
    rows = {row.name.partition("[")[0] for row in read(PATH.read_text(encoding="utf-8"))}
    files = Path(__file__).parent.rglob("test_*.py")
    tests = {name for file in files for name in re.findall(r"(?m)^def (test_\w+)", file.read_text())}
    assert rows <= tests
