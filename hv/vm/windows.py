"""What Windows' installer asks, answered: `autounattend.xml`, on a medium of its own, which it looks for by itself
(https://learn.microsoft.com/windows-hardware/manufacture/desktop/windows-setup-automation-overview).

No password is in it: the account has none until its owner sets one at the guest's screen, and until then Windows lets
nobody in over the network (policy "Limit local account use of blank passwords to console logon only", on by default).
"""

import io
from typing import Any

import pycdlib
from lxml import etree

from hv.vm.spec import Unattended

NS = "urn:schemas-microsoft-com:unattend"
WCM = "http://schemas.microsoft.com/WMIConfig/2002/State"
ABOUT = {
    "processorArchitecture": "amd64",
    "publicKeyToken": "31bf3856ad364e35",
    "language": "neutral",
    "versionScope": "nonSxS",
}
"""Of each of Windows' own components."""
PARTITIONS = (("EFI", 300), ("MSR", 16), ("Primary", None))
"""Type and MiB of the partitions under UEFI, in order; the last takes the rest."""
Element = etree._Element


def answers(given: Unattended, hostname: str) -> bytes:
    """The file: an empty first disk is Windows' altogether."""
    spaces: Any = {None: NS, "wcm": WCM}
    top = etree.Element(f"{{{NS}}}unattend", nsmap=spaces)
    setup = _pass(top, "windowsPE")
    _languages(_component(setup, "Microsoft-Windows-International-Core-WinPE"), given, setup_too=True)
    own = _component(setup, "Microsoft-Windows-Setup")
    _disk(own, given)
    data = _add(own, "UserData")
    _add(data, "AcceptEula", "true")
    _add(data, "FullName", given.user)
    _add(_add(data, "ProductKey"), "WillShowUI", "OnError")
    specialize = _pass(top, "specialize")
    shell = _component(specialize, "Microsoft-Windows-Shell-Setup")
    _add(shell, "ComputerName", given.hostname or hostname)
    _add(shell, "TimeZone", given.time_zone)
    last = _pass(top, "oobeSystem")
    _languages(_component(last, "Microsoft-Windows-International-Core"), given, setup_too=False)
    shell = _component(last, "Microsoft-Windows-Shell-Setup")
    first = _add(shell, "OOBE")
    for tag, text in (
        ("HideEULAPage", "true"),
        ("HideOnlineAccountScreens", "true"),
        ("HideWirelessSetupInOOBE", "true"),
        ("ProtectYourPC", "3"),
    ):
        _add(first, tag, text)
    account = _item(_add(_add(shell, "UserAccounts"), "LocalAccounts"), "LocalAccount")
    password = _add(account, "Password")
    _add(password, "Value", "")
    _add(password, "PlainText", "true")
    _add(account, "Group", "Administrators")
    _add(account, "Name", given.user)
    return etree.tostring(top, encoding="UTF-8", xml_declaration=True, pretty_print=True)


def answers_iso(given: Unattended, hostname: str) -> bytes:
    """The medium's bytes."""
    data = answers(given, hostname)
    iso = pycdlib.PyCdlib()
    iso.new(interchange_level=3, vol_ident="ANSWERS", joliet=3)
    iso.add_fp(io.BytesIO(data), len(data), "/AUTOUNATTEND.XML;1", joliet_path="/autounattend.xml")
    out = io.BytesIO()
    iso.write_fp(out)
    iso.close()
    return out.getvalue()


def _languages(into: Element, given: Unattended, *, setup_too: bool) -> None:
    if setup_too:
        _add(_add(into, "SetupUILanguage"), "UILanguage", given.language)
    for tag in ("InputLocale", "SystemLocale", "UILanguage", "UserLocale"):
        _add(into, tag, given.keyboard or given.language if tag == "InputLocale" else given.language)


def _disk(into: Element, given: Unattended) -> None:
    """The first disk, whole: the request's model sees to it that it is new and empty."""
    disk = _item(_add(into, "DiskConfiguration"), "Disk")
    created, changed = _add(disk, "CreatePartitions"), _add(disk, "ModifyPartitions")
    for number, (kind, size) in enumerate(PARTITIONS, 1):
        made = _item(created, "CreatePartition")
        _add(made, "Order", str(number))
        _add(made, "Type", kind)
        _add(made, *(("Extend", "true") if size is None else ("Size", str(size))))
        if kind != "MSR":
            formatted = _item(changed, "ModifyPartition")
            _add(formatted, "Order", str(1 if kind == "EFI" else 2))
            _add(formatted, "PartitionID", str(number))
            _add(formatted, "Format", "FAT32" if kind == "EFI" else "NTFS")
    _add(disk, "DiskID", "0")
    _add(disk, "WillWipeDisk", "true")
    image = _add(_add(into, "ImageInstall"), "OSImage")
    if given.edition:
        chosen = _item(_add(image, "InstallFrom"), "MetaData")
        _add(chosen, "Key", "/IMAGE/NAME")
        _add(chosen, "Value", given.edition)
    to = _add(image, "InstallTo")
    _add(to, "DiskID", "0")
    _add(to, "PartitionID", str(len(PARTITIONS)))


def _pass(top: Element, name: str) -> Element:
    made = _add(top, "settings")
    made.set("pass", name)
    return made


def _component(settings: Element, name: str) -> Element:
    made = _add(settings, "component")
    for key, value in {"name": name, **ABOUT}.items():
        made.set(key, value)
    return made


def _item(parent: Element, tag: str) -> Element:
    """A row of a list."""
    made = _add(parent, tag)
    made.set(f"{{{WCM}}}action", "add")
    return made


def _add(parent: Element, tag: str, text: str | None = None) -> Element:
    made = etree.SubElement(parent, f"{{{NS}}}{tag}")
    made.text = text
    return made
