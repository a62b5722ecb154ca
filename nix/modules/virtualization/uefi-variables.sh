# UEFI for guests whose variables can be in a snapshot: libvirt keeps them in one where they are a qcow2 file
# (https://libvirt.org/formatsnapshot.html), makes that file of the template that a firmware's description names
# (QEMU, docs/interop/firmware.json), and converts no template itself.
#
# usage: uefi-variables.sh SHARE TEMPLATES
#   SHARE: a folder like QEMU's share/qemu, whose firmware/ gets a description more for each that has a raw template
#   TEMPLATES: folder for the templates as qcow2
#
# The new description comes before the old one (libvirt takes the first that fits, in the order of their names); the
# old one stays for guests whose file is raw.
set -eu

share=$1
templates=$2
mkdir -p "$templates"

for description in "$share"/firmware/*.json; do
    raw=$(jq -r 'select(.mapping.device == "flash") | .mapping["nvram-template"]? // empty
        | select(.format == "raw") | .filename' "$description")
    [ -n "$raw" ] || continue
    name=$(basename "$raw")
    qcow2="$templates/${name%.*}.qcow2"
    [ -e "$qcow2" ] || qemu-img convert -f raw -O qcow2 "$raw" "$qcow2"
    jq --arg file "$qcow2" '.mapping["nvram-template"] = {filename: $file, format: "qcow2"}' \
        "$description" >"${description%.json}-qcow2.json"
done
