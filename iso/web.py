"""`hv media web`: a local page on which an install medium is customised, and from which it is downloaded as a stream.

Nothing is stored but in memory: wishes by the id that follows from them, links that work once.
"""

import hashlib
import io
import secrets
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse, StreamingResponse

from installer import VERSION, embed
from installer.answers.load import load
from installer.answers.problems import AnswersError, shown_path
from installer.answers.sizes import format_size
from installer.commands.answers import machine as read_machine
from installer.errors import Exit, HyperError
from iso import contents, form
from iso.carrier import examine
from iso.embedding import change, digest
from iso.image import opened
from iso.patches import patched
from iso.recipe import Recipe
from iso.web_page import page

if TYPE_CHECKING:
    from installer.answers.model import Answers
    from installer.medium import Medium

LARGEST = 1 << 20
"""Bytes of a form."""
LIFETIME = 600.0
"""Seconds for which a link works."""
MOST = 1000
"""Recipes and links that are kept; the oldest go first."""
OPEN = ("host", "medium", "storage", "users")
"""Sections that are unfolded at first."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    # Not no-referrer: with that browsers call the origin of their own form `null`.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class Base:
    """An image that can be customised."""

    path: Path
    label: str
    bytes: int

    @property
    def name(self) -> str:
        """As the form shows it."""
        return self.path.name

    @property
    def size(self) -> str:
        """For people."""
        return format_size(self.bytes)


@dataclass(frozen=True)
class Fleet:
    """Machines that one image installs."""

    image: Recipe
    machines: tuple[form.Machine, ...]
    folder: bytes
    """What `hv answers serve` takes, as a tar archive."""

    @property
    def identity(self) -> str:
        """The id: SHA-256 over the image's and the folder, the first 160 bits."""
        return hashlib.sha256(self.image.identity.encode() + self.folder).hexdigest()[:40]


@dataclass
class Shop:
    """Everything that the pages know."""

    bases: tuple[Base, ...]
    machines: Mapping[str, Path]
    hosts: frozenset[str]
    """Names by which browsers may address it: another page that makes a browser ask under its own name gets nothing."""
    medium: "Medium | None" = None
    recipes: dict[str, Recipe] = field(default_factory=dict)
    fleets: dict[str, Fleet] = field(default_factory=dict)
    links: dict[str, tuple[str, float]] = field(default_factory=dict)
    _digests: dict[str, str] = field(default_factory=dict)

    def recipe(self, values: Mapping[str, str]) -> Recipe:
        """What was filled in. Raises HyperError."""
        base = next((each for each in self.bases if each.name == values.get("image")), None)
        if base is None:
            raise HyperError(
                "no image was chosen",
                why=f"{values.get('image', '')[:80]!r} is none of those that are there",
                remedy="choose one of the list",
                code=Exit.usage,
            )
        files: dict[str, bytes] = {}
        answers = _answers(values)
        of_fleet = bool(values.get(TABLE, "").strip())
        if answers and not of_fleet:
            files[embed.ANSWERS] = form.text(form.filled(answers))
        if values.get("keys", "").strip():
            files[embed.KEYS] = values["keys"].replace("\r", "").strip().encode() + b"\n"
        content = contents.check(files, tuple(values.get("arguments", "").split()))
        if not content.files and not content.arguments and not of_fleet:
            raise HyperError(
                "nothing was filled in",
                why="the medium would be the image as it is",
                remedy="fill in a host's name, storage and a user, or SSH keys",
                code=Exit.usage,
            )
        with opened(base.path) as image:
            change(image, examine(image), content)
            if base.name not in self._digests:
                self._digests[base.name] = digest(image)
        made = Recipe(base.name, self._digests[base.name], content)
        _keep(self.recipes, made.identity, made)
        return made

    def fleet(self, values: Mapping[str, str]) -> str:
        """The id of a fleet: an answer file for each line of the table, and one image for all. Raises HyperError."""
        machines = form.fleet(values[TABLE].replace("\r\n", "\n"), form.filled(_answers(values)))
        image, folder = self.recipe(values), archive(form.fleet_files(machines))
        made = Fleet(image, machines, folder)
        _keep(self.fleets, made.identity, made)
        return made.identity

    def link(self, identity: str) -> str:
        """A link that works once."""
        token = secrets.token_urlsafe(24)
        _keep(self.links, token, (identity, time.monotonic() + LIFETIME))
        return token

    def take(self, token: str) -> str:
        """The id that a link is for, once; empty: it works no more."""
        identity, until = self.links.pop(token, ("", 0.0))
        return identity if time.monotonic() < until else ""

    def stream(self, recipe: Recipe) -> Iterator[bytes]:
        """The customised image, spliced while it is sent: there is no copy of it."""
        base = next(each for each in self.bases if each.name == recipe.image)
        with opened(base.path) as image:
            made = change(image, examine(image), recipe.content)
            yield from patched(image, made.patches, made.size).chunks()

    def plan(self, recipe: Recipe, name: str) -> str:
        """What the answers would do on a recorded machine."""
        answers = recipe.content.files.get(embed.ANSWERS)
        if answers is None or name not in self.machines:
            return ""
        try:
            return told(load(answers, embed.ANSWERS), self.machines[name], self.medium)
        except HyperError as error:
            return str(error)


TABLE = "fleet"
"""The field with a fleet's table."""
NO_ANSWERS = ("image", "keys", "arguments", "machine", TABLE)


def _answers(values: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in values.items() if name not in NO_ANSWERS and value.strip()}


def archive(files: Mapping[str, bytes]) -> bytes:
    """A tar archive, with rights for its owner alone: same files, same bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as made:
        for name, content in sorted(files.items()):
            member = tarfile.TarInfo(f"fleet/{name}")
            member.size, member.mode = len(content), 0o600
            made.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def told(answers: "Answers", record: Path, medium: "Medium | None") -> str:
    """The plan; without the medium's description, what would be erased. Raises HyperError."""
    from installer.answers.select import select_disks, title
    from installer.plan.describe import describe
    from installer.plan.losses import losses
    from installer.plan.planner import make_plan

    facts = read_machine(record)
    if medium is not None:
        return describe(make_plan(facts, answers, medium), "answers.toml")
    selectors = [answers.storage.disk, *answers.storage.disks]
    lines = ["This is erased (name the medium's description, --medium, for the whole plan):"]
    for disk in (disk for selector in selectors if selector for disk in select_disks(selector, facts)):
        lines += [title(disk), *(f"  {each}" for each in losses(disk, disk.name, facts.systems).losses)]
    return "\n".join(lines)


def _keep(kept: dict[str, Any], key: str, value: Any) -> None:
    kept[key] = value
    while len(kept) > MOST:
        del kept[next(iter(kept))]


def find_bases(paths: Sequence[Path]) -> tuple[Base, ...]:
    """Images among files and in folders. Raises HyperError when there is none."""
    found, why = [], []
    for path in paths:
        for file in sorted(path.glob("*.iso")) if path.is_dir() else [path]:
            try:
                with opened(file) as image:
                    carrier = examine(image)
                    if carrier.area is None:
                        why.append(f"{file} has no place for answers")
                    else:
                        label = carrier.volume.label if carrier.volume else carrier.kind
                        found.append(Base(file.absolute(), label, image.size))
            except HyperError as error:
                why.append(f"{file}: {error.why}")
    if not found:
        raise HyperError(
            "there is no image to customise",
            why="; ".join(why) or "no file was named, and no folder with *.iso",
            remedy="name images of ours, or adopt a stock one: `hv media adopt`",
            code=Exit.medium,
        )
    return tuple(found)


def make_app(shop: Shop) -> FastAPI:
    """The application."""
    app = FastAPI(
        title="Hyper-NixOS media", version=VERSION, docs_url=None, redoc_url=None, openapi_url=None
    )

    def show(name: str, status: int = 200, **values: object) -> HTMLResponse:
        return HTMLResponse(page(name, **values), status, HEADERS)

    def filled_form(values: Mapping[str, str], error: HyperError | None = None) -> HTMLResponse:
        problems = []
        if isinstance(error, AnswersError):
            problems = [
                {"field": shown_path(each.path), "text": f"{each.wrong}. {each.remedy}"}
                for each in error.problems
            ]
        elif error:
            problems = [{"field": "", "text": f"{error.what}: {error.why}\n{error.remedy}"}]
        marked = {each["field"] for each in problems}
        used = {name.split(".")[0].split("[")[0] for name, value in values.items() if value.strip()}
        return show(
            "form",
            422 if error else 200,
            title="Customise an install medium",
            images=shop.bases,
            sections=form.form(),
            values=values,
            problems=problems,
            marked=marked,
            machines=sorted(shop.machines),
            open={*OPEN, *used, *(name.split(".")[0].split("[")[0] for name in marked)},
        )

    def gone(title: str, text: str, status: int) -> HTMLResponse:
        return show("message", status, title=title, text=text)

    @app.middleware("http")
    async def only_from_here(request: Request, call_next: object) -> Response:
        """Nobody else's page may use it: neither by a name that leads here, nor by a form that is sent here."""
        host = request.headers.get("host", "")
        origin = request.headers.get("origin")
        if host not in shop.hosts or (
            request.method != "GET" and origin not in (None, f"http://{host}", f"https://{host}")
        ):
            return Response("this page is for its own computer", 403)
        answer: Response = await call_next(request)  # type: ignore[operator]
        return answer

    @app.get("/")
    def front() -> HTMLResponse:
        """The form."""
        return filled_form({})

    @app.post("/recipes")
    async def recipes(request: Request) -> Response:
        """Check what was filled in."""
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > LARGEST:
                return gone("Too much", "The form is larger than 1 MiB.", 413)
        values = dict(
            parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=5000)
        )
        try:
            if values.get(TABLE, "").strip():
                return RedirectResponse(f"/fleets/{shop.fleet(values)}", 303, HEADERS)
            made = shop.recipe(values)
        except HyperError as error:
            return filled_form(values, error)
        machine = values.get("machine", "")
        query = f"?machine={machine}" if machine in shop.machines else ""
        return RedirectResponse(f"/recipes/{made.identity}{query}", 303, HEADERS)

    @app.get("/recipes/{identity}")
    def recipe(identity: str, machine: str = "") -> HTMLResponse:
        """What was made, and a link to it."""
        made = shop.recipes.get(identity)
        if made is None:
            return gone("Not known", "This recipe was made by another run, or is too old.", 404)
        base = next(each for each in shop.bases if each.name == made.image)
        answers = made.content.files.get(embed.ANSWERS, b"").decode()
        from installer.support.scrub import Scrub

        return show(
            "recipe",
            title=f"{made.image}, customised",
            recipe=made,
            token=shop.link(identity),
            file=file_name(made),
            size=base.size,
            command=f"hv media embed {base.path} --answers answers.toml --output {file_name(made)}",
            machine=machine,
            plan=shop.plan(made, machine),
            answers=Scrub(())(answers),
        )

    @app.get("/fleets/{identity}")
    def fleet(identity: str) -> HTMLResponse:
        """The machines, and links to their answers and to the image."""
        made = shop.fleets.get(identity)
        if made is None:
            return gone("Not known", "This fleet was made by another run, or is too old.", 404)
        base = next(each for each in shop.bases if each.name == made.image.image)
        return show(
            "fleet",
            title=f"{len(made.machines)} machines",
            fleet=made,
            answers=shop.link(identity),
            image=shop.link(made.image.identity),
            file=file_name(made.image),
            size=base.size,
        )

    @app.get("/fleet/{token}")
    def folder(token: str) -> Response:
        """The answers of a fleet."""
        made = shop.fleets.get(shop.take(token))
        if made is None:
            return gone("Gone", "This link was used already, or is older than ten minutes.", 410)
        headers = HEADERS | {"Content-Disposition": 'attachment; filename="fleet.tar"'}
        return Response(made.folder, 200, headers, "application/x-tar")

    @app.get("/download/{token}")
    def download(token: str) -> Response:
        """The image."""
        made = shop.recipes.get(shop.take(token))
        if made is None:
            return gone("Gone", "This link was used already, or is older than ten minutes.", 410)
        base = next(each for each in shop.bases if each.name == made.image)
        headers = HEADERS | {
            "Content-Length": str(base.bytes),
            "Content-Disposition": f'attachment; filename="{file_name(made)}"',
        }
        return StreamingResponse(shop.stream(made), 200, headers, "application/octet-stream")

    return app


def file_name(recipe: Recipe) -> str:
    """What the download is called."""
    stem = "".join(
        letter if letter.isalnum() or letter in "._-" else "-" for letter in Path(recipe.image).stem
    )
    return f"{stem}-{recipe.identity[:8]}{Path(recipe.image).suffix}"
