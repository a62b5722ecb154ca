# Stage 1, before udev loads drivers: keep declared PCI devices for guests. No program but the shell is needed.
#
#   claim ADDRESS VENDOR DEVICE    for each, in the script that NixOS makes of this file and those lines
#
# What is found at an address must be what was declared: after a card was moved nothing is claimed, rather than the wrong
# thing. A device that cannot be claimed is said, and keeps no other from being claimed.
pci=${SYSFS:-/sys}/bus/pci

claim() {
  local folder=$pci/devices/$1 vendor="" device=""
  if [ ! -e "$folder" ]; then
    echo "$1: there is no device at this address; nothing claimed" >&2
    return 0
  fi
  read -r vendor < "$folder/vendor" || true
  read -r device < "$folder/device" || true
  if [ "$vendor:$device" != "0x$2:0x$3" ]; then
    echo "$1: expected $2:$3, found ${vendor#0x}:${device#0x}; nothing claimed" >&2
    return 0
  fi
  if ! echo vfio-pci > "$folder/driver_override"; then
    echo "$1: the kernel takes no driver for it; nothing claimed" >&2
    return 0
  fi
  if [ -e "$folder/driver/unbind" ]; then
    # A driver that is part of the kernel was faster.
    echo "$1" > "$folder/driver/unbind" || echo "$1: its driver does not let it go" >&2
    echo "$1" > "$pci/drivers_probe" || true
  fi
  echo "$1: kept for guests"
}
claim 0000:01:00.0 10de 2204
