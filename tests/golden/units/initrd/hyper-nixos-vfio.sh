claim() {
  folder=/sys/bus/pci/devices/$1
  if [ ! -e "$folder" ]; then
    echo "$1: there is no device; nothing claimed" >&2
  elif [ "$(<"$folder/vendor"):$(<"$folder/device")" != "0x$2:0x$3" ]; then
    echo "$1: expected $2:$3, found $(<"$folder/vendor"):$(<"$folder/device"); left to the host" >&2
  else
    echo vfio-pci > "$folder/driver_override"
    if [ -e "$folder/driver" ]; then echo "$1" > "$folder/driver/unbind"; fi
  fi
}
claim 0000:01:00.0 10de 2204
