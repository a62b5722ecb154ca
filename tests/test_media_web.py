"""`hv media web`: over HTTP, and in a real browser with the keyboard alone."""

import hashlib
import http.client
import io
import re
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import pytest

from installer.serve.fleet import read_fleet
from iso.carrier import examine
from iso.embedding import embedded
from iso.image import Image
from tests.media import fixture
from tests.nixeval.nix import REPOSITORY
from tests.plan_cases import blank_disk, machine, medium

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA/bH0e6oLFbwBtQmqJv+/0vKMbYCTMdgzcDP8gUycir anna@desk"
VALUES = {
    "image": "ours.iso",
    "hostname": "kvm1",
    "storage.disk.transport": "nvme",
    "users[0].name": "anna",
    "users[0].admin": "yes",
    "users[0].ssh_keys": KEY,
    "users[0].password_hash": "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7",
    "keys": KEY,
    "arguments": "console=ttyS1 a.b=c",
}


@dataclass
class Site:
    """A page that is served."""

    port: int

    def ask(
        self, path: str, form: dict[str, str] | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers, body."""
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if form is None:
            line.request("GET", path, headers=sent)
        else:
            sent.setdefault("Content-Type", "application/x-www-form-urlencoded")
            line.request("POST", path, urlencode(form), sent)
        answer = line.getresponse()
        body = answer.read()
        line.close()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, body


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The command, served."""
    folder = tmp_path_factory.mktemp("web")
    (folder / "server.json").write_text(machine(blank_disk()).model_dump_json())
    (folder / "medium.json").write_text(medium().model_dump_json())
    port = 18_090 + hash(folder) % 1000
    argv = [
        sys.executable,
        "-m",
        "hv",
        "media",
        "web",
        str(fixture.image("ours")),
        "--listen",
        f"127.0.0.1:{port}",
    ]
    argv += ["--machine", str(folder / "server.json"), "--medium", str(folder / "medium.json")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as process:
        try:
            assert process.stdout
            assert process.stdout.readline().strip() == f"http://127.0.0.1:{port}/"
            made = Site(port)
            for _ in range(100):
                try:
                    made.ask("/")
                    break
                except OSError:
                    time.sleep(0.1)
            yield made
        finally:
            process.terminate()


def recipe(site: Site, values: dict[str, str]) -> str:
    """Where a form leads."""
    status, headers, body = site.ask("/recipes", values)
    assert status == 303, body.decode()
    return headers["location"]


def test_filled_in_and_downloaded(site: Site) -> None:
    place = recipe(site, VALUES | {"machine": "server.json"})
    status, _, body = site.ask(place)
    text = body.decode()
    assert status == 200
    assert "Samsung" in text
    assert "kvm1" in text
    assert VALUES["users[0].password_hash"] not in text
    link = re.findall(r'href="(/download/[^"]+)"', text)[0]
    status, headers, image = site.ask(link)
    assert (status, int(headers["content-length"])) == (200, len(image))
    assert re.search(r'filename="ours-[0-9a-f]{8}\.iso"', headers["content-disposition"])
    made = Image.of(image)
    content = embedded(made, examine(made))
    assert content.arguments == ("console=ttyS1", "a.b=c")
    assert b"kvm1" in content.files["answers.toml"]
    assert KEY.encode() in content.files["authorized_keys"]
    # Once.
    assert site.ask(link)[0] == 410


def test_the_same_wishes_have_the_same_id_and_the_same_image(site: Site) -> None:
    first, second = (recipe(site, VALUES) for _ in range(2))
    assert first == second != recipe(site, VALUES | {"hostname": "kvm2"})
    images = set()
    for _ in range(2):
        link = re.findall(r'href="(/download/[^"]+)"', site.ask(first)[2].decode())[0]
        images.add(hashlib.sha256(site.ask(link)[2]).hexdigest())
    assert len(images) == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hostname": "not a host"}, 'href="#hostname"'),
        ({"users[0].ssh_keys": "", "users[0].password_hash": ""}, "Problems"),
        ({"arguments": "a;b"}, "meaning of their own"),
        ({"keys": "nonsense"}, "authorized_keys"),
        ({"image": "other.iso"}, "no image was chosen"),
        ({"nonsense": "x"}, "there is no field"),
    ],
)
def test_what_is_wrong_is_told_and_nothing_is_lost(site: Site, changes: dict[str, str], words: str) -> None:
    status, _, body = site.ask("/recipes", VALUES | changes)
    assert status == 422
    assert words in body.decode()
    assert "console=ttyS1" in body.decode() or "arguments" in changes


def test_what_is_filled_in_is_text(site: Site) -> None:
    status, headers, body = site.ask("/recipes", VALUES | {"hostname": '"><script>alert(1)</script>'})
    assert status == 422
    assert b"<script>" not in body
    assert "default-src 'none'" in headers["content-security-policy"]


def test_a_table_becomes_answers_and_one_image(site: Site, tmp_path: Path) -> None:
    values = {name: value for name, value in VALUES.items() if name != "hostname"}
    table = "name,serial,hostname\r\nrack1,SN1,kvm1\r\nrack2,SN2,kvm2\r\n"
    status, headers, body = site.ask("/recipes", values | {"fleet": table})
    assert status == 303, body.decode()
    text = site.ask(headers["location"])[2].decode()
    assert "2 machines" in text
    assert "SN2" in text
    (answers,) = re.findall(r'href="(/fleet/[^"]+)"', text)
    status, _, folder = site.ask(answers)
    assert status == 200
    assert site.ask(answers)[0] == 410
    with tarfile.open(fileobj=io.BytesIO(folder)) as opened:
        for member in opened:
            told = opened.extractfile(member)
            assert told is not None
            (tmp_path / member.name).parent.mkdir(exist_ok=True)
            (tmp_path / member.name).write_bytes(told.read())
    # The server itself reads it, and gives each machine its own.
    fleet = read_fleet(tmp_path / "fleet")
    assert {each.name for each in fleet.machines} == {"rack1", "rack2"}
    assert 'hostname = "kvm2"' in (tmp_path / "fleet/rack2.toml").read_text()
    (image,) = re.findall(r'href="(/download/[^"]+)"', text)
    made = Image.of(site.ask(image)[2])
    content = embedded(made, examine(made))
    assert "answers.toml" not in content.files
    assert content.files["authorized_keys"].decode().strip() == KEY
    assert content.arguments == ("console=ttyS1", "a.b=c")


def test_a_wrong_table_is_told_with_its_line_and_kept(site: Site) -> None:
    values = {name: value for name, value in VALUES.items() if name != "hostname"}
    table = "name,serial,hostname\nrack1,SN1,kvm1\nrack2,SN2,no name\n"
    status, _, body = site.ask("/recipes", values | {"fleet": table})
    assert status == 422
    assert "line 3 (rack2)" in body.decode()
    assert "rack1,SN1,kvm1" in body.decode()


def test_other_pages_may_not_use_it(site: Site) -> None:
    assert site.ask("/", Host="evil.example")[0] == 403
    assert site.ask("/recipes", VALUES, Origin="http://evil.example")[0] == 403
    assert site.ask("/recipes", VALUES, Origin=f"http://127.0.0.1:{site.port}")[0] == 303
    assert site.ask("/recipes", {"keys": "x" * (1 << 20)})[0] == 413
    assert site.ask("/recipes/unknown")[0] == 404


@pytest.mark.browser
def test_with_the_keyboard_alone(site: Site, tmp_path: Path) -> None:
    """Tab, typing, Enter: from the empty form, through a mistake, to the file."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 900, "height": 700}, accept_downloads=True)
        page.goto(f"http://127.0.0.1:{site.port}/")

        def reach(name: str) -> None:
            for _ in range(400):
                if (
                    page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()")
                    == name
                ):
                    return
                page.keyboard.press("Tab")
            raise AssertionError(f"Tab does not lead to {name}")

        reach("hostname")
        page.keyboard.type("not a host")
        reach("storage.disk.transport")
        page.keyboard.type("nvme")
        for name in ("users[0].name", "users[0].admin", "users[0].ssh_keys", "users[0].password_hash"):
            reach(name)
            page.keyboard.type(VALUES[name])
        reach("Check, and make the medium")
        page.keyboard.press("Enter")
        page.wait_for_selector("[role=alert]")
        page.screenshot(path=tmp_path / "problem.png")
        assert page.input_value("id=users[0].name") == "anna"
        reach("hostname")  # the link to the field comes first
        page.keyboard.press("Enter")
        page.wait_for_function("document.activeElement.tagName == 'INPUT'")  # the link leads into it
        assert page.evaluate("document.activeElement.id") == "hostname"
        page.keyboard.press("Control+A")
        page.keyboard.type("kvm1")
        reach("users[0].password_hash")
        page.keyboard.type(VALUES["users[0].password_hash"])
        reach("machine")
        page.keyboard.type("server")
        reach("Check, and make the medium")
        page.keyboard.press("Enter")
        page.wait_for_selector("a.button")
        page.screenshot(path=tmp_path / "recipe.png", full_page=True)
        assert "Samsung" in page.inner_text("body")
        while page.evaluate("document.activeElement.className") != "button":
            page.keyboard.press("Tab")
        with page.expect_download() as waiting:
            page.keyboard.press("Enter")
        waiting.value.save_as(tmp_path / "medium.iso")
        # Everything has a name that a screen reader says.
        page.goto(f"http://127.0.0.1:{site.port}/")
        unnamed = page.evaluate(
            "[...document.querySelectorAll('input,select,textarea')].filter(e => !e.labels.length).map(e => e.id)"
        )
        assert unnamed == []
        page.screenshot(path=tmp_path / "form.png")
        browser.close()
    made = Image.of((tmp_path / "medium.iso").read_bytes())
    assert b"kvm1" in embedded(made, examine(made)).files["answers.toml"]


@pytest.mark.browser
def test_a_fleet_with_the_keyboard_alone(site: Site, tmp_path: Path) -> None:
    """What all have, a table with a mistake in it, the answers' archive and the image."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 900, "height": 700}, accept_downloads=True)
        page.goto(f"http://127.0.0.1:{site.port}/")

        def at() -> str:
            return str(
                page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()")
            )

        def reach(name: str) -> None:
            for _ in range(400):
                if at() == name:
                    return
                page.keyboard.press("Tab")
            raise AssertionError(f"Tab does not lead to {name}")

        def make() -> None:
            reach("Check, and make the medium")
            page.keyboard.press("Enter")

        reach("storage.disk.transport")
        page.keyboard.type("nvme")
        for name in ("users[0].name", "users[0].admin", "users[0].ssh_keys", "users[0].password_hash"):
            reach(name)
            page.keyboard.type(VALUES[name])
        reach("fleet")
        assert page.evaluate("document.activeElement.tagName") == "SUMMARY"
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.tagName") == "TEXTAREA"
        page.keyboard.type("name,serial,hostname\nrack1,SN1,kvm1\nrack2,SN2,no name\n")
        make()
        page.wait_for_selector("[role=alert]")
        page.screenshot(path=tmp_path / "problem.png")
        assert "line 3 (rack2)" in page.inner_text("[role=alert]")
        # The table is open, and what was typed is there; one line is put right.
        assert page.input_value("textarea#fleet").count("\n") >= 2
        for _ in range(400):
            if at() == "fleet" and page.evaluate("document.activeElement.tagName") == "TEXTAREA":
                break
            page.keyboard.press("Tab")
        page.keyboard.press("Control+End")
        for _ in range(len("no name\n")):
            page.keyboard.press("Backspace")
        page.keyboard.type("kvm2")
        assert page.input_value("textarea#fleet").endswith("rack2,SN2,kvm2")
        reach("users[0].password_hash")
        page.keyboard.type(VALUES["users[0].password_hash"])
        make()
        page.wait_for_selector("table")
        page.screenshot(path=tmp_path / "fleet.png", full_page=True)
        assert "2 machines" in page.inner_text("h1")
        assert page.inner_text("tbody").split() == ["rack1", "SN1", "rack2", "SN2"]
        for label, name in (("Download the answers", "fleet.tar"), ("Download the image", "medium.iso")):
            while not at().startswith(label):
                page.keyboard.press("Tab")
            with page.expect_download() as waiting:
                page.keyboard.press("Enter")
            waiting.value.save_as(tmp_path / name)
        browser.close()
    with tarfile.open(tmp_path / "fleet.tar") as opened:
        opened.extractall(tmp_path)
    fleet = read_fleet(tmp_path / "fleet")
    assert {each.name for each in fleet.machines} == {"rack1", "rack2"}
    made = Image.of((tmp_path / "medium.iso").read_bytes())
    assert "answers.toml" not in embedded(made, examine(made)).files
