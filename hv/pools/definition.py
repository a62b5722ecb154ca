"""A pool in libvirt's words (https://libvirt.org/formatstorage.html): what we write, and what we find."""

import uuid
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from hv.pools.declared import FolderPool, LvmPool, Pool

_OURS = uuid.UUID("6f0b5f3e-6c60-5d57-9b1c-5b1f7d9f3a10")


@dataclass(frozen=True)
class Target:
    """Where a pool has its volumes: two pools are the same one when this is equal."""

    kind: str
    """libvirt's type."""
    place: str
    """Folder, volume group or dataset."""

    def __str__(self) -> str:
        return f"{self.kind} {self.place}"


def pool_uuid(name: str) -> str:
    """The identifier of a pool that we define: by it we know our own later."""
    return str(uuid.uuid5(_OURS, name))


def target_of(pool: Pool) -> Target:
    """Of a declared pool."""
    match pool:
        case FolderPool():
            return Target("dir", pool.path.rstrip("/") or "/")
        case LvmPool():
            return Target("logical", pool.volume_group)
    return Target("zfs", pool.dataset)


def found_target(xml: str) -> Target:
    """Of a pool that libvirt has."""
    root = ET.fromstring(xml)  # noqa: S314 - libvirt's own words
    kind = root.get("type") or ""
    where = "source/name" if kind in ("logical", "zfs") else "target/path"
    return Target(kind, (root.findtext(where) or "").rstrip("/") or "/")


def pool_xml(pool: Pool) -> str:
    """The definition."""
    target = target_of(pool)
    root = ET.Element("pool", type=target.kind)
    ET.SubElement(root, "name").text = pool.name
    ET.SubElement(root, "uuid").text = pool_uuid(pool.name)
    if target.kind == "dir":
        ET.SubElement(ET.SubElement(root, "target"), "path").text = target.place
    else:
        ET.SubElement(ET.SubElement(root, "source"), "name").text = target.place
    if target.kind == "logical":
        ET.SubElement(ET.SubElement(root, "target"), "path").text = f"/dev/{target.place}"
    return ET.tostring(root, encoding="unicode")
