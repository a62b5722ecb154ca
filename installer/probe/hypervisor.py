"""What this machine is a guest of."""

from installer.probe.root import Root

CPUID_NAMES = {
    "KVMKVMKVM": "kvm",
    "Linux KVM Hv": "kvm",
    "TCGTCGTCGTCG": "qemu",
    "VMwareVMware": "vmware",
    "Microsoft Hv": "hyper-v",
    "XenVMMXenVMM": "xen",
    "VBoxVBoxVBox": "virtualbox",
    "bhyve bhyve": "bhyve",
    "ACRNACRNACRN": "acrn",
    "QNXQVMBSQG": "qnx",
    " lrpepyh vr": "parallels",
}
"""Signature of CPUID leaf 0x40000000."""
DMI_NAMES = (
    ("QEMU", "qemu"),
    ("KVM", "kvm"),
    ("VMware", "vmware"),
    ("innotek", "virtualbox"),
    ("VirtualBox", "virtualbox"),
    ("Xen", "xen"),
    ("Amazon EC2", "kvm"),
    ("Google Compute", "kvm"),
    ("OpenStack", "kvm"),
    ("Bochs", "bochs"),
    ("Parallels", "parallels"),
    ("BHYVE", "bhyve"),
    ("Virtual Machine", "hyper-v"),
    ("Apple Virtualization", "apple"),
)
"""Parts of the DMI vendor or product, as systemd-detect-virt(1) knows them."""
CPUID_HYPERVISOR = "0x40000000"
DMI = "/sys/class/dmi/id"


def hypervisor(root: Root, flags: frozenset[str]) -> str | None:
    """Name of the hypervisor in the words of systemd-detect-virt(1), `unknown` if it hides, None on bare metal."""
    if kind := root.text("/sys/hypervisor/type"):
        return kind
    if "hypervisor" in flags and (leaf := root.ask("cpuid", CPUID_HYPERVISOR)):
        signature = _bytes(leaf)[4:16].rstrip(b"\0").decode("ascii", "replace")
        if signature in CPUID_NAMES:
            return CPUID_NAMES[signature]
    names = [root.text(f"{DMI}/{field}") or "" for field in ("sys_vendor", "product_name")]
    for part, name in DMI_NAMES:
        if any(part in text for text in names):
            return name
    return "unknown" if "hypervisor" in flags else None


def _bytes(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""
