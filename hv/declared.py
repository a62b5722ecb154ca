"""VMs that a file declares: what has to be made, what changed, and what is left alone, before anything is done.

Only VMs that were made from such a file are changed. Nothing is ever deleted, stopped or started anew for a change;
what waits for the next start says so.
"""

import json
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hv.client import Client, quoted
from hv.vm.fitting import fit, looked_up
from hv.vm.spec import VmSpec, told
from installer.answers.sizes import format_size, parse_size
from installer.errors import Exit, HyperError


@dataclass(frozen=True)
class Request:
    """One request to the broker."""

    where: str
    given: dict[str, Any]


@dataclass(frozen=True)
class Step:
    """What becomes of one VM."""

    name: str
    what: str
    """create, change, leave."""
    why: str
    requests: tuple[Request, ...] = ()

    @property
    def line(self) -> str:
        """For people."""
        return f"{self.what:<7}{self.name}: {self.why}"

    def told(self) -> dict[str, Any]:
        """For programs."""
        return {"name": self.name, "what": self.what, "why": self.why}


def read(file: str) -> tuple[VmSpec, ...]:
    """The file's VMs. Raises HyperError that names file, VM, field and value."""
    path = Path(file)
    try:
        text = path.read_text(encoding="utf-8")
        found = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise HyperError(
            f"{file} cannot be read.",
            why=error.strerror or str(error),
            remedy="Name an existing file.",
            code=Exit.usage,
        ) from error
    except ValueError as error:
        raise _unfit(file, str(error)) from error
    if not isinstance(found, dict) or found.get("version") != 1 or set(found) - {"version", "vms"}:
        raise _unfit(file, "it has `version = 1` and a list `vms`, and nothing else")
    specs = []
    for number, given in enumerate(found.get("vms", [])):
        try:
            specs.append(VmSpec.model_validate_json(json.dumps({**_sizes(given), "declared": True})))
        except ValidationError as error:
            lines = told(error).replace("\n", f"\nvms.{number}.")
            raise _unfit(file, f"vms.{number}.{lines}") from error
        except (TypeError, ValueError) as error:
            raise _unfit(file, f"vms.{number}: {error}") from error
    names = [spec.name for spec in specs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise _unfit(file, f"declared twice: {', '.join(twice)}")
    return tuple(specs)


def _unfit(file: str, why: str) -> HyperError:
    return HyperError(
        f"{file} does not declare VMs.",
        why=why,
        remedy="Mend it; docs/vms.md says what is in it.",
        code=Exit.usage,
    )


def _sizes(given: dict[str, Any]) -> dict[str, Any]:
    """Sizes as people write them (`2GiB`) as bytes."""
    made = dict(given)
    for field in ("memory", "max_memory"):
        if isinstance(made.get(field), str):
            made[field] = parse_size(made[field])
    made["disks"] = [
        {**disk, "size": parse_size(disk["size"])} if isinstance(disk.get("size"), str) else disk
        for disk in made.get("disks", [])
    ]
    return made


def plan(wanted: tuple[VmSpec, ...], client: Client) -> list[Step]:
    """What becomes of each; the same twice gives the same."""
    there = {row["name"]: row for row in client.ask("GET", "/1/vms")["vms"]}
    systems: dict[str, str] = {}
    if any(_images_of(spec) and "os" not in spec.model_fields_set for spec in wanted):
        systems = {row["name"]: row["os"] for row in client.ask("GET", "/1/images")["images"]}
    steps = [_step(spec, there.get(spec.name), client, systems) for spec in wanted]
    names = {spec.name for spec in wanted}
    for name, row in there.items():
        if row["declared"] and name not in names:
            steps.append(
                Step(
                    name,
                    "leave",
                    f"no longer declared, and left as it is; `hv vm delete '{name}'` deletes it",
                )
            )
    return steps


def _images_of(spec: VmSpec) -> list[str]:
    return [name for name in (*(disk.image for disk in spec.disks), spec.iso) if name]


def fitted(spec: VmSpec, systems: dict[str, str]) -> VmSpec:
    """With what its system wants and the file does not say; `systems`: those of images, by name."""
    given = spec.model_dump(mode="json", exclude_unset=True)
    own = next((systems[name] for name in _images_of(spec) if name in systems), "generic")
    os = given.setdefault("os", own)
    system, _ = looked_up(os) if os != "generic" else (None, "")
    if system is not None:
        fit(given, system)
    return VmSpec.model_validate_json(json.dumps(given))


def _step(spec: VmSpec, row: dict[str, Any] | None, client: Client, systems: dict[str, str]) -> Step:
    if row is None:
        spec = fitted(spec, systems)
        sizes = f"{spec.vcpus} processors, {format_size(spec.memory)}, {len(spec.disks)} disks"
        return Step(spec.name, "create", sizes, (Request("/1/vms", spec.model_dump(mode="json")),))
    if not row["declared"]:
        return Step(spec.name, "leave", "was made by hand, and is left alone")
    found = client.ask("GET", f"/1/vms/{quoted(spec.name)}")
    changes, requests, stuck = _changes(spec, found)
    why = "; ".join(
        [*changes, *(f"{each} differs, and is left: it would have to be made anew" for each in stuck)]
    )
    if not requests:
        return Step(spec.name, "leave", why or "is as declared")
    return Step(spec.name, "change", why, tuple(requests))


def _changes(spec: VmSpec, found: dict[str, Any]) -> tuple[list[str], list[Request], list[str]]:
    """In words, as requests, and what cannot be changed."""
    where = f"/1/vms/{quoted(spec.name)}"
    lines, requests, stuck = [], list[Request](), list[str]()
    runs = "" if found["state"] in ("stopped", "crashed") else ", from the next start on"
    shown: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
        ("vcpus", "processors", str),
        ("max_vcpus", "processors at most", str),
        ("memory", "memory", format_size),
        ("max_memory", "memory at most", format_size),
    )
    amounts = {}
    for field, name, show in shown:
        now, then = found[field], getattr(spec, field)
        # What the file does not say is as its system wanted it when it was made, or as somebody changed it since.
        if field in spec.model_fields_set and then is not None and now != then:
            room = found.get(f"max_{field}", 0)
            lines.append(f"{name} {show(now)} → {show(then)}{'' if then <= room else runs}")
            amounts[field] = then
    if amounts:
        requests.append(Request(f"{where}/resize", amounts))
    disks = [disk for disk in found["disks"] if disk["volume"] and disk["volume"]["kind"] == "disk"]
    for disk, there in zip(spec.disks, disks, strict=False):
        now = there["volume"]["size"]
        if disk.size is not None and disk.size > now:
            lines.append(f"disk {there['target']} {format_size(now)} → {format_size(disk.size)}")
            requests.append(Request(f"{where}/resize", {"disk": there["target"], "size": disk.size}))
        elif disk.size is not None and disk.size < now:
            stuck.append(
                f"disk {there['target']} ({format_size(now)} is more than {format_size(disk.size)})"
            )
    if found["autostart"] != spec.autostart:
        lines.append(f"autostart {'on' if spec.autostart else 'off'}")
        requests.append(Request(f"{where}/autostart", {"on": spec.autostart}))
    if found["description"] != spec.description:
        lines.append("description")
        requests.append(Request(f"{where}/edit", {"description": spec.description}))
    add, remove = sorted(set(spec.tags) - set(found["tags"])), sorted(set(found["tags"]) - set(spec.tags))
    if add or remove:
        lines.append("tags " + " ".join([*(f"+{tag}" for tag in add), *(f"~{tag}" for tag in remove)]))
        requests.append(Request(f"{where}/tag", {"add": add, "remove": remove}))
    if "firmware" in spec.model_fields_set and found["firmware"] != spec.firmware:
        stuck.append("firmware")
    if "tpm" in spec.model_fields_set and found["tpm"] != spec.tpm:
        stuck.append("TPM")
    if spec.disks and len(disks) != len(spec.disks):
        stuck.append("number of disks")
    if [nic["network"] for nic in found["nics"]] != [nic.network for nic in spec.nics]:
        stuck.append("networks")
    return lines, requests, stuck


def carry_out(step: Step, client: Client) -> None:
    """Do what a step says. Raises HyperError."""
    for request in step.requests:
        client.wait(client.ask("POST", request.where, request.given)["operation"])
