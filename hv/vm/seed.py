"""The volume that tells a guest who it is: NoCloud, an ISO labelled `cidata` (https://docs.cloud-init.io)."""

import io
import json

import pycdlib

from hv.vm.spec import CloudInit


def user_data(given: CloudInit, hostname: str) -> str:
    """The file `user-data`: JSON, which is YAML, so that no text of anybody's can become a key."""
    config: dict[str, object] = {"hostname": given.hostname or hostname, "manage_etc_hosts": True}
    if given.user:
        config["users"] = [
            "default",
            {
                "name": given.user,
                "sudo": "ALL=(ALL) NOPASSWD:ALL",
                "shell": "/bin/bash",
                "lock_passwd": True,
                "ssh_authorized_keys": list(given.keys),
            },
        ]
    elif given.keys:
        config["ssh_authorized_keys"] = list(given.keys)
    if given.packages:
        config["packages"] = list(given.packages)
    return f"#cloud-config\n{json.dumps(config, indent=1)}\n"


def seed_iso(given: CloudInit, *, instance: str, hostname: str) -> bytes:
    """The volume's bytes. `instance`: changes when the guest is another one, so that keys of the host are made anew."""
    meta = json.dumps({"instance-id": instance, "local-hostname": given.hostname or hostname})
    iso = pycdlib.PyCdlib()
    iso.new(interchange_level=3, vol_ident="cidata", joliet=3, rock_ridge="1.09")
    for name, plain, text in (
        ("user-data", "USERDATA.;1", user_data(given, hostname)),
        ("meta-data", "METADATA.;1", meta),
    ):
        data = text.encode()
        iso.add_fp(io.BytesIO(data), len(data), f"/{plain}", rr_name=name, joliet_path=f"/{name}")
    out = io.BytesIO()
    iso.write_fp(out)
    iso.close()
    return out.getvalue()
