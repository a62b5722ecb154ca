"""The fact types while probing.

Building the pydantic models costs more time than probing the machine, so `hv probe --json` does without them.
For mypy the names here are the fact types. At run time they are mappings with the same fields in the same order,
which `installer.probe.probe` turns into validated `Facts` and `hv probe --json` prints as they are.
Tests hold the two equal, byte for byte, on every recorded machine; therefore a draft is given every field,
also those that have a default.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from installer.facts import Facts
    from installer.facts.common import Judgement, Unknown
    from installer.facts.cpu import Cpu, Memory, Virtualization
    from installer.facts.disks import Disk, Filesystem, Health, Holder, Partition
    from installer.facts.firmware import Firmware, Hibernation, SerialConsole, Tpm
    from installer.facts.nics import Nic
    from installer.facts.pci import Gpu, Iommu, IommuGroup, PassthroughVerdict, PciDevice
    from installer.facts.systems import InstalledSystem
else:

    class Draft(dict):
        """A fact without validation: fields in the order given, read as attributes."""

        __slots__ = ()
        __getattr__ = dict.__getitem__

        def model_copy(self, *, update):
            """A copy with some fields replaced, as pydantic's method of this name."""
            return type(self)({**self, **update})

    class UnknownKind(type):
        """Makes `isinstance` see the validated `Unknown` as well, so that what shows drafts shows facts."""

        def __instancecheck__(cls, value):
            return type(value).__name__ == "Unknown"

    class Unknown(Draft, metaclass=UnknownKind):
        """A fact that could not be read."""

        __slots__ = ()

    Facts = Judgement = Cpu = Memory = Virtualization = Disk = Filesystem = Health = Holder = Partition = (
        Draft
    )
    Firmware = SerialConsole = Tpm = Nic = Gpu = Iommu = IommuGroup = PassthroughVerdict = PciDevice = Draft
    Hibernation = InstalledSystem = Draft

__all__ = [
    "Cpu",
    "Disk",
    "Facts",
    "Filesystem",
    "Firmware",
    "Gpu",
    "Health",
    "Hibernation",
    "Holder",
    "InstalledSystem",
    "Iommu",
    "IommuGroup",
    "Judgement",
    "Memory",
    "Nic",
    "Partition",
    "PassthroughVerdict",
    "PciDevice",
    "SerialConsole",
    "Tpm",
    "Unknown",
    "Virtualization",
]
