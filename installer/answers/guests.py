"""What the host does once, after its first boot."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, StringConstraints

from installer.answers.text_kinds import AbsolutePath, SizeText, none_word
from installer.frozen import Frozen

TEMPLATE = "template:"
"""What an image's name begins with that is a template's."""


class VmAnswers(Frozen):
    """A VM to make at first run."""

    name: Annotated[
        str,
        StringConstraints(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$"),
        Field(
            title="a guest's name: letters, digits, `_`, `.` and `-`, at most 63",
            examples=["router"],
        ),
    ]
    """Name of the domain."""
    image: str = Field(examples=["medium:router"])
    """`medium:NAME` for an image of the medium, or an absolute path on the live system: copied to the host. `template:NAME`
    (`hv image templates`) or a URL with `image_sha256`: fetched by the host itself after its first boot."""
    image_format: Literal["qcow2", "raw"] = "qcow2"
    """Format of the image; never guessed, since a guest could forge it."""
    image_sha256: (
        Annotated[
            str,
            StringConstraints(pattern=r"^[0-9a-f]{64}$"),
            Field(title="a SHA-256: 64 hexadecimal digits in lower case", examples=["e3b0c442…"]),
        ]
        | None
    ) = None
    """SHA-256 of the image, checked after copying or fetching; a URL needs it."""
    memory: SizeText = "1GiB"
    """Memory."""
    vcpus: int = Field(default=1, ge=1, le=512)
    """Virtual processors."""
    disk_size: SizeText | None = Field(default=None, examples=["20GiB"])
    """Grow the disk to this size."""
    network: Annotated[str | None, BeforeValidator(none_word)] = "default"
    """libvirt network; `none` for no network."""
    firmware: Literal["bios", "uefi"] = "uefi"
    """Firmware of the guest."""
    autostart: bool = True
    """Start with the host."""
    start: bool = True
    """Start at first run."""

    @property
    def fetched(self) -> bool:
        """Whether the host fetches the image itself."""
        return self.image.startswith((TEMPLATE, "https://", "http://"))


class FirstRunAnswers(Frozen):
    """What the host does once, after its first boot."""

    vms: tuple[VmAnswers, ...] = ()
    """VMs."""
    pool: AbsolutePath = "/var/lib/libvirt/images"
    """Folder of the storage pool `default`."""
