"""`hv vm`: making VMs and deleting them, and carrying them in and out."""

import argparse
import re
import sys

from hv.client import Client, checked, quoted
from hv.commands.vm_asking import operate, placement, show_json, where_of
from hv.table import sized
from installer.errors import Exit, HyperError

TYPE_CHECKING = False  # typing's own would import typing
if TYPE_CHECKING:
    from typing import Any, BinaryIO

    from hv.images.foreign import Foreign


GENERIC = "generic"
"""An image's system that nobody named."""


def _from_template(client: Client, options: argparse.Namespace) -> None:
    """Fills in what the template says and the command line does not; brings its image if it is not there."""
    from hv.images.shelf import known
    from hv.images.template import template

    wanted = template(options.template)
    guest = wanted.guest
    for field, value in (
        ("cpus", guest.cpus),
        ("memory", guest.memory),
        ("firmware", guest.firmware),
        ("os", wanted.os),
        ("size", guest.disk),
    ):
        if getattr(options, field) is None:
            setattr(options, field, value)
    options.tpm = options.tpm or guest.tpm
    options.secure_boot = options.secure_boot or guest.secure_boot
    if options.image or options.iso:
        return
    images = known(client)
    if wanted.name not in images and options.dry_run:
        from hv.images.fetching import require_consent

        require_consent(wanted, unsigned=options.unsigned)
        print(
            f"note: the image {wanted.name} is not there: it would be fetched and verified first ({wanted.title}); the "
            "plan is without it",
            file=sys.stderr,
        )
        return
    if wanted.name not in images:
        from hv.commands.image import pull

        pull(
            client,
            wanted.name,
            argparse.Namespace(name=wanted.name, unsigned=options.unsigned, public=False),
        )
    if wanted.kind == "iso":
        options.iso = wanted.name
    else:
        options.image = wanted.name


def _from_system(client: Client, options: argparse.Namespace, given: "dict[str, Any]") -> None:
    """Fills in what the guest's system wants and nobody said: the one that was named, else its image's."""
    os = options.os
    if os is None and (options.image or options.iso):
        images = {row["name"]: row for row in client.ask("GET", "/1/images")["images"]}
        os = images.get(options.image or options.iso, {}).get("os", GENERIC)
        if os != GENERIC:
            given["os"] = os
    if os in (None, GENERIC):
        return
    from hv.vm.fitting import fit, looked_up

    system, why = looked_up(os, told=options.os is not None)
    if system is None:
        if why:
            print(f"note: {why}", file=sys.stderr)
        return
    fit(given, system, pool=options.pool)
    if system.least_memory and given.get("memory", system.least_memory) < system.least_memory:
        print(
            f"note: {system.name} wants {sized(system.least_memory)} of memory at least, and gets {sized(given['memory'])}",
            file=sys.stderr,
        )


def create(client: Client, options: argparse.Namespace) -> int:
    if options.template:
        _from_template(client, options)
    disks: list[dict[str, Any]] = []
    if options.image or options.size:
        disk: dict[str, Any] = {"pool": options.pool}
        if options.image:
            disk["image"] = options.image
        if options.size:
            disk["size"] = options.size
        disks.append(disk)
    for each in options.disk:
        pool, _, name = each.rpartition("/")
        disks.append({"pool": pool or options.pool, "volume": name})
    if options.bus:
        disks = [disk | {"bus": options.bus} for disk in disks]
    card = {"model": options.card} if options.card else {}
    networks = options.network or ["default"]
    given: dict[str, Any] = {
        "name": options.name,
        "disks": disks,
        "nics": [{"network": each, **card} for each in networks if each != "none"],
        "start": options.start,
        "autostart": options.autostart,
        "tags": options.tag,
        "description": options.description,
        "secure_boot": options.secure_boot,
        "tpm": options.tpm,
    }
    # What is not said is not sent: its system may want something of its own.
    for field, value in (
        ("vcpus", options.cpus),
        ("memory", options.memory),
        ("max_vcpus", options.max_cpus),
        ("max_memory", options.max_memory),
        ("firmware", options.firmware),
        ("os", options.os),
        ("iso", options.iso),
        ("screen", options.screen),
        ("placement", placement(options)),
    ):
        if value is not None:
            given[field] = value
    _from_system(client, options, given)
    keys = [key for file in options.key for key in _keys(file)]
    if options.unattended:
        told = {
            "user": options.user,
            "hostname": options.hostname,
            "language": options.language,
            "edition": options.edition,
        }
        given["unattended"] = {key: value for key, value in told.items() if value is not None}
    elif options.ignition and (keys or options.user or options.hostname):
        raise HyperError(
            "--ignition goes without --user, --key and --hostname.",
            why="a system reads either what Ignition takes or what cloud-init takes",
            remedy="Write accounts, keys and the host's name into the Ignition file (Butane: passwd, storage.files).",
            code=Exit.usage,
        )
    elif options.ignition:
        given["ignition"] = {"config": _ignition(options.ignition)}
    elif keys or options.user or options.hostname:
        given["cloud_init"] = {"user": options.user, "keys": keys, "hostname": options.hostname}
    if not disks and not options.iso:
        print(
            "note: it has no disk and no medium to start from (--template, --image, --iso, --size)",
            file=sys.stderr,
        )
    result = operate(client, options, "/1/vms", given)
    if result is not None:
        print(f"{result['name']}: made, {result['state']}")
    return 0


def _ignition(file: str) -> str:
    """What Ignition reads, as the file has it. Raises HyperError."""
    from pathlib import Path

    try:
        text = Path(file).expanduser().read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise HyperError(
            f"The file {file} cannot be read.",
            why=str(error),
            remedy="Name a file of JSON, as `butane web.bu > web.ign` writes it.",
            code=Exit.usage,
        ) from error
    if not text.lstrip().startswith("{"):
        raise HyperError(
            f"{file} is nothing that Ignition reads.",
            why="it is a Butane file, which is for people" if "variant:" in text else "it is no JSON",
            remedy=f"Make one of it: `butane '{file}' > web.ign`, then name web.ign.",
            code=Exit.usage,
        )
    return text


def _keys(file: str) -> list[str]:
    """Public keys of a file, as ~/.ssh/*.pub and authorized_keys have them."""
    from pathlib import Path

    try:
        lines = Path(file).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise HyperError(
            f"The key file {file} cannot be read.",
            why=str(error),
            remedy="Name a file such as ~/.ssh/id_ed25519.pub.",
            code=Exit.usage,
        ) from error
    keys = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    for key in keys:
        if "PRIVATE KEY" in key or len(key.split()) < 2:
            raise HyperError(
                f"{file} has no SSH public key.",
                why="a line of it is no public key"
                if "PRIVATE" not in key
                else "it is a private key, which stays with you",
                remedy="Name the file that ends in .pub.",
                code=Exit.usage,
            )
    return keys


def clone(client: Client, options: argparse.Namespace) -> int:
    result = operate(
        client, options, where_of(options, "/clone"), {"name": options.new, "start": options.start}
    )
    if result is not None:
        print(f"{result['name']}: made, {result['state']}")
    return 0


def fetched(client: Client, where: str, file: "BinaryIO") -> int:
    """Writes what comes; how many bytes. Raises HyperError for a refusal."""
    answer = client.open("GET", where)
    try:
        if answer.status >= 400:
            checked(answer)
        count = 0
        for piece in answer.pieces():
            file.write(piece)
            count += len(piece)
        return count
    finally:
        answer.close()


def import_(client: Client, options: argparse.Namespace) -> int:
    import tempfile
    from pathlib import Path
    from uuid import uuid4

    from hv.commands.image import _programs, _progress, _step
    from hv.images.foreign import read
    from hv.images.shelf import Label, Way, bring, known
    from installer.execute.interrupts import EndedError, ended_by_signals

    file = Path(options.file)
    if not file.is_file():
        raise HyperError(
            f"{file} cannot be read.",
            why="there is no such file",
            remedy="Name an existing file.",
            code=Exit.usage,
        )
    with ended_by_signals(), tempfile.TemporaryDirectory(prefix="hv-import-") as folder:
        found = read(file, Path(folder))
        name = options.new or found.name
        if not options.json:
            print(
                f"{name}: {found.cpus} processors, {sized(found.memory)}, {found.firmware}, "
                f"{_counted(len(found.disks), 'disk')}, {_counted(found.nics, 'card')} with new addresses"
            )
            for each in (*found.lost, *found.left):
                print(f"  not taken over: {each}")
        if not options.incomplete:
            _require_disks(name, found)
        left = {"left": list(found.left), "lost": list(found.lost)}
        given: dict[str, Any] = {
            "name": name,
            "vcpus": found.cpus,
            "memory": found.memory,
            "firmware": found.firmware,
            "nics": [{"network": options.network}] * found.nics,
        }
        # What would be refused is refused before a long way, not after it.
        client.ask("POST", "/1/vms?dry_run=1", given)
        if options.dry_run:
            if options.json:
                show_json({"version": 1, "spec": given, "disks": len(found.disks), **left})
            return 0
        # Broken off before, it is gone on with: what is there of the same name and content was brought for it.
        before = known(client)
        way = Way(_programs(), _progress(), again=True, say=_step, quiet=options.json)
        images = []
        try:
            for number, disk in enumerate(found.disks):
                label = Label(
                    f"{re.sub(r'[^A-Za-z0-9_.+-]+', '-', name).strip('-._+') or 'vm'}-disk{number}",
                    source=file.name,
                )
                bring(client, (disk.path, disk.format), label, way)
                images.append(label.name)
            # Buses as a system without virtio drivers has them: what was installed elsewhere must find its disk.
            given["disks"] = [{"image": image, "bus": "sata"} for image in images]
            key = {"Idempotency-Key": str(uuid4())}
            operation = client.ask_patiently("POST", "/1/vms", given, key)["operation"]
            result = client.wait(operation, quiet=options.json)
        except (HyperError, KeyboardInterrupt) as error:
            # Who lost a terminal goes on with the same command; nobody else does.
            for image in () if isinstance(error, EndedError) else images:
                if image not in before:
                    _take_back(client, image)
            raise
    if options.json:
        show_json({"version": 1, **result, **left})
    else:
        print(f"{result['name']}: made, {result['state']}")
        if images:
            print(f"its disks stand on what came with it: {', '.join(images)} (`hv image list`)")
    return 0


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _take_back(client: Client, image: str) -> None:
    """An image that nobody needs after all; what went wrong first is told."""
    try:
        client.ask_patiently("DELETE", f"/1/images/{quoted(image)}")
    except HyperError:
        return


def _require_disks(name: str, found: "Foreign") -> None:
    """HyperError unless every disk is taken over: without one of them it is not the VM that it was."""
    if found.disks and not found.lost:
        return
    raise HyperError(
        f"{name} is not taken over without its disks.",
        why="; ".join(found.lost) or "its description names no disk that has anything in it",
        remedy="Put their files beside the description, or say --incomplete to have the VM without them.",
        code=Exit.unsuitable,
    )


def apply(client: Client, options: argparse.Namespace) -> int:
    from hv.declared import carry_out, plan, read

    wanted = read(options.file)
    steps = plan(wanted, client)
    if options.json and options.dry_run:
        show_json({"version": 1, "steps": [step.told() for step in steps]})
        return 0
    if not options.json:
        print("\n".join(step.line for step in steps) or "no VMs are declared")
    if options.dry_run:
        return 0
    due = [step for step in steps if step.requests]
    asks = due and not options.yes and not options.json and sys.stdin.isatty()
    if asks and input("Do it? [y/N] ").strip().lower() not in ("y", "yes"):
        print("nothing was done")
        return int(Exit.consent)
    failed = 0
    for step in due:
        try:
            carry_out(step, client)
        except HyperError as error:
            failed = failed or int(error.code)
            print(error, file=sys.stderr)
        else:
            if not options.json:
                print(f"{step.name}: done")
    if options.json:
        show_json({"version": 1, "steps": [step.told() for step in steps], "failed": bool(failed)})
    return failed


def delete(client: Client, options: argparse.Namespace) -> int:
    given = {"disks": options.disks, "force": options.force}
    where = where_of(options, "/delete")
    if not options.dry_run and not options.yes and not options.json and sys.stdin.isatty():
        print("\n".join(client.ask("POST", f"{where}?dry_run=1", given)["plan"]))
        if input("Do it? [y/N] ").strip().lower() not in ("y", "yes"):
            print("nothing was done")
            return int(Exit.consent)
    result = operate(client, options, where, given)
    if result is not None:
        print(f"{result['name']}: deleted")
        for disk in result["kept"]:
            print(f"kept: {disk}")
    return 0


def disk_delete(client: Client, options: argparse.Namespace) -> int:
    pool, _, name = options.disk.rpartition("/")
    where = f"/1/volumes/{quoted(pool or 'default')}/{quoted(name)}"
    found = client.ask("DELETE", where + ("?dry_run=1" if options.dry_run else ""))
    if options.json:
        show_json(found)
    else:
        print("\n".join(found["plan"]) if options.dry_run else f"{found['name']}: deleted")
    return 0
