"""What the host's configuration says about guests: /etc/hyper-nixos/guests.json, written by nix/modules/virtualization."""

import json
from xml.etree import ElementTree as ET

from hv.firstrun.world import World
from installer.errors import HyperError

GUESTS = "/etc/hyper-nixos/guests.json"
CPU_MODEL = "host-model"
"""Where the host's configuration says nothing: the host's model by name, which a like processor has too."""


def cpu_model(world: World) -> str:
    """The processor of guests with KVM; HyperError for a file that cannot be read as one of ours."""
    file = world.path(GUESTS)
    try:
        model = json.loads(file.read_text())["cpuModel"]
    except FileNotFoundError:
        return CPU_MODEL
    except (ValueError, KeyError, TypeError) as error:
        model, fault = None, str(error)
    else:
        fault = f"cpuModel is {model!r}"
    if not isinstance(model, str):
        raise HyperError(
            f"{GUESTS} does not say which processor guests get.",
            why=fault,
            remedy="It comes from the host's configuration: set hypervisor.virtualization.cpuModel and rebuild.",
        )
    return model


def usable_models(capabilities: ET.Element) -> frozenset[str]:
    """Processor models that a host can give (https://libvirt.org/formatdomaincaps.html#cpu-configuration)."""
    models = capabilities.findall("cpu/mode[@name='custom']/model[@usable='yes']")
    return frozenset(model.text for model in models if model.text)
