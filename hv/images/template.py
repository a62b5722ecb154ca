"""Templates: what a guest of some system starts from, where its vendor publishes it, and how that is known to be theirs."""

import re
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urljoin, urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from installer.answers.sizes import parse_size
from installer.errors import Exit, HyperError

FOLDER = Path(__file__).parent / "templates"
OWN_FOLDER = Path("/etc/hyper-nixos/templates")
"""Templates of this host's administrators; one of the same name stands for ours."""
VERSION = 1

Fingerprint = Annotated[str, Field(pattern=r"^[0-9A-F]{40}([0-9A-F]{24})?$")]
"""Of an OpenPGP primary key: 40 hexadecimal digits, or 64 of a version 6 key (RFC 9580, 5.5.4)."""
Size = Annotated[int, BeforeValidator(lambda value: parse_size(value) if isinstance(value, str) else value)]


class Trust(StrEnum):
    """What an image is recognised by."""

    signed_sums = "signed-sums"
    """A file of checksums with a signature in a file of its own."""
    clear_signed_sums = "clear-signed-sums"
    """A file of checksums that has its signature in it (RFC 9580, 7)."""
    signed_image = "signed-image"
    """A signature of the image itself."""
    https_sums = "https-sums"
    """A file of checksums that nobody signed: whoever controls the vendor's server controls it."""

    @property
    def signed(self) -> bool:
        """Whether a signature vouches for it."""
        return self is not Trust.https_sums


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(_Model):
    """The image for one architecture."""

    url: str = Field(pattern=r"^https?://")
    """The file; with `pattern`, the folder that it is in."""
    format: Literal["qcow2", "raw", "vmdk", "vdi", "vhdx", "iso"]
    """As qemu-img(1) names it; never guessed from the content."""
    pattern: str | None = None
    """Regular expression of the file's name, where that has a version in it: looked up in the signed sums."""
    sums: str | None = None
    """Its file of checksums, when that differs between architectures."""

    @property
    def name(self) -> str:
        """The file's name."""
        return urlsplit(self.url).path.rpartition("/")[2]


class TrustRule(_Model):
    """How it is verified."""

    kind: Trust
    """By what."""
    sums: str | None = None
    """File of checksums, beside the image or a URL."""
    signature: str | None = None
    """Signature of that file, beside it or a URL."""
    suffix: str | None = None
    """Instead of a name: what comes behind the image's, `.asc` or `.sha256`."""
    key: str | None = Field(default=None, pattern=r"^https://")
    """Where the vendor's key can be had; only its fingerprint is trusted."""
    fingerprints: tuple[Fingerprint, ...] = ()
    """Primary keys, each of which is enough."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.kind.signed and not (self.key and self.fingerprints):
            raise ValueError(f"{self.kind} needs `key` and `fingerprints`")
        if self.kind is Trust.signed_sums and not self.signature:
            raise ValueError("signed-sums needs `signature`")
        if self.kind is Trust.signed_image and not self.suffix:
            raise ValueError("signed-image needs `suffix`")
        return self


class Guest(_Model):
    """What a guest gets unless it is told otherwise."""

    cpus: int = Field(ge=1)
    memory: Size
    """Bytes."""
    disk: Size
    """Bytes."""
    firmware: Literal["uefi", "bios"] = "uefi"
    secure_boot: bool = False
    tpm: bool = False
    user: str | None = None
    """The account that cloud-init gives the key to; none without cloud-init."""


class Template(_Model):
    """One template."""

    version: Literal[1]
    """Of the format."""
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,40}$")
    title: str
    """For people."""
    os: str
    """libosinfo's short id, which decides what hardware the guest sees."""
    kind: Literal["disk", "iso"]
    """A disk that starts, or a medium that installs."""
    fetched: bool
    """Whether its makers have ever fetched and verified exactly this."""
    bring: str | None = None
    """How to get the image, where no program can."""
    image: dict[Literal["x86_64", "aarch64"], Source] = Field(default_factory=dict)
    trust: TrustRule | None = None
    guest: Guest

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.bring is None and not (self.image and self.trust):
            raise ValueError("it has neither `image` and `trust`, nor `bring`")
        if self.trust and self.trust.kind is not Trust.signed_image:
            for architecture, source in self.image.items():
                if not (source.sums or self.trust.sums or self.trust.suffix):
                    raise ValueError(f"image.{architecture}: nothing names its checksums")
        for architecture, source in self.image.items():
            if (source.format == "iso") is not (self.kind == "iso"):
                raise ValueError(f"image.{architecture}.format is {source.format}, kind is {self.kind}")
            if source.pattern is not None:
                try:
                    re.compile(source.pattern)
                except re.error as error:
                    raise ValueError(f"image.{architecture}.pattern: {error}") from error
            if self.trust and self.trust.kind is Trust.https_sums and not source.url.startswith("https://"):
                raise ValueError(f"image.{architecture}.url: without a signature only https will do")
        return self

    def source(self, architecture: str) -> Source:
        """The image for an architecture. Raises HyperError."""
        if self.bring is not None:
            raise HyperError(
                f"The image of {self.name} cannot be fetched by a program.",
                why="its vendor hands it out to people only",
                remedy=self.bring,
                code=Exit.unsuitable,
            )
        found = dict(self.image).get(architecture)  # type: ignore[call-overload]
        if found is None:
            raise HyperError(
                f"{self.name} has no image for {architecture}.",
                why=f"its template names {', '.join(self.image)}",
                remedy="Choose another template: `hv image templates`.",
                code=Exit.selection,
            )
        return found  # type: ignore[no-any-return]


def beside(source: Source, name: str) -> str:
    """The URL of a file beside the image, or the name itself if it is one."""
    return urljoin(source.url, name)


def read(path: Path) -> Template:
    """One template. Raises HyperError that names the file, the field and the value."""
    try:
        return Template.model_validate(tomllib.loads(path.read_text()))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        why = str(error)
    except ValidationError as error:
        why = "; ".join(
            f"{'.'.join(map(str, problem['loc'])) or 'the file'}: {problem['msg']}"
            + ("" if isinstance(problem["input"], dict | BaseModel) else f" (it is {problem['input']!r})")
            for problem in error.errors(include_url=False)
        )
    raise HyperError(
        f"The template {path} cannot be used.",
        why=why,
        remedy="Correct it, or take it away; docs/images.md says what is in one.",
        code=Exit.record,
    )


def templates(*folders: Path) -> dict[str, Template]:
    """All of them by name; a later folder's stand for an earlier one's. Raises HyperError."""
    found = {}
    for folder in folders or (FOLDER, OWN_FOLDER):
        for path in sorted(folder.glob("*.toml")):
            one = read(path)
            found[one.name] = one
    return dict(sorted(found.items()))


def template(name: str, *folders: Path) -> Template:
    """The one of that name. Raises HyperError."""
    known = templates(*folders)
    if name in known:
        return known[name]
    raise HyperError(
        f"There is no template {name!r}.",
        why=f"there are {', '.join(known)}",
        remedy=f"Choose one of these, or put {name}.toml into {OWN_FOLDER}.",
        code=Exit.selection,
    )
