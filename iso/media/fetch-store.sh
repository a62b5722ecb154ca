# Fetches the store of a live system that booted over the network, in stage 1: hyper-nixos-store.service runs it before the
# store is mounted. Address, size and SHA-256 are kernel arguments, which `hv media netboot` writes; nothing is mounted that
# has another SHA-256. So it asks for no certificate either: stage 1 knows neither authorities nor, on many machines, the time.
#
# usage: fetch-store.sh [ROOT [PATIENCE]]
#   ROOT      where /proc, /run and the rest are found
#   PATIENCE  seconds without one more byte, after which it gives up
set -uf
root=${1:-} patience=${2:-900}
place=/run/hyper-nixos-store
folder=$root$place
file=$folder/nix-store.squashfs
said=$root/run/hyper-nixos-store.said
reserve=512 # MiB that the live system takes besides
url='' size='' sha256='' total=0 free=0

# On every console, and in the journal.
tell() {
    echo "$1"
    for console in $(cat "$root/sys/class/tty/console/active"); do
        printf '\rhyper-nixos: %s\r\n' "$1" >>"$root/dev/$console"
    done 2>/dev/null
}

fail() {
    tell "ERROR: the store was not fetched: $1"
    tell "  why: $2"
    tell "  do:  $3"
    tell "  Ctrl+Alt+Del starts the machine anew."
    exit 1
}

mib() { echo $((($1 + 1048575) / 1048576)); }
have() { stat -c %s "$file" 2>/dev/null || echo 0; }
now() { cut -d . -f 1 /proc/uptime; }

for word in $(cat "$root/proc/cmdline"); do
    case $word in
        hyper-nixos.store=*) url=${word#*=} ;;
        hyper-nixos.store-size=*) size=${word#*=} ;;
        hyper-nixos.store-sha256=*) sha256=${word#*=} ;;
    esac
done
anew="make the folder anew with \`hv media netboot\`, and serve that"
case $url in
    http://?* | https://?*) ;;
    *) fail "no address is known" "hyper-nixos.store is '$url'" "$anew" ;;
esac
case $size in
    '' | *[!0-9]*) fail "its size is not known" "hyper-nixos.store-size is '$size'" "$anew" ;;
esac
case $sha256 in
    '' | *[!0-9a-f]*) fail "its SHA-256 is not known" "hyper-nixos.store-sha256 is '$sha256'" "$anew" ;;
esac

# Where it is kept: memory of its own size, as the first file system has half of the machine's at most.
while read -r name amount _; do
    case $name in
        MemTotal:) total=$amount ;;
        MemAvailable:) free=$amount ;;
    esac
done <"$root/proc/meminfo"
if [ $((free / 1024)) -lt $(($(mib "$size") + reserve)) ]; then
    fail "it does not fit into this machine's memory" \
        "it takes $(mib "$size") MiB, the live system $reserve MiB more; $((free / 1024)) of $((total / 1024)) MiB are free" \
        "give it more memory, or start it from the ISO image, which stays on its medium"
fi
umount "$folder" 2>/dev/null
mkdir -p "$folder"
mount -t tmpfs -o "mode=0700,size=$((size + 1048576))" hyper-nixos-store "$folder" ||
    fail "there is no place for it" "no tmpfs of $(mib "$size") MiB can be mounted at $folder" "report it"

# (A sleep that is left behind holds nothing open.)
seen=-1
while sleep 10 >/dev/null 2>&1; do
    got=$(have)
    [ "$got" = "$seen" ] || tell "$(mib "$got") of $(mib "$size") MiB of the store are there"
    seen=$got
done &
watching=$!
trap 'kill "$watching" 2>/dev/null' EXIT

tell "fetching the store, $(mib "$size") MiB, from $url"
most=0 pause=1 since=$(now) anew_once=
while :; do
    code=$(curl --silent --show-error --fail --location --insecure --connect-timeout 20 --speed-limit 1024 --speed-time 30 \
        --continue-at - --output "$file" --write-out '%{http_code}' "$url" 2>"$said")
    status=$? got=$(have) why=$(tail -n 1 "$said") other=
    if [ "$got" -gt "$most" ]; then most=$got pause=1 since=$(now); fi
    case $status:$code in
        0:*)
            found=$(sha256sum "$file") found=${found%% *}
            if [ "$got" = "$size" ] && [ "$found" = "$sha256" ]; then break; fi
            other="$got bytes with SHA-256 $found came, not $size with $sha256"
            ;;
        # More than there is room for, and less than was fetched before: another file.
        23:* | 22:416) other="another file than the one of $size bytes is served: $why" ;;
        # The server cannot begin in the middle.
        33:*) rm -f "$file" ;;
        22:408 | 22:425 | 22:429 | 22:5??) ;;
        1:* | 3:* | 22:*) fail "$url cannot be had" "$why" "look whether it is served: \`hv media serve\`" ;;
    esac
    if [ "$other" ]; then
        [ -z "$anew_once" ] || fail "it is not the one that belongs to this kernel" "$other" "$anew"
        tell "$other; fetched once more from the beginning"
        rm -f "$file"
        anew_once=yes most=0 since=$(now)
        continue
    fi
    if [ $(($(now) - since)) -ge "$patience" ]; then
        fail "no byte came for $patience seconds" "$why" "look whether $url is served, and whether this machine has an address"
    fi
    tell "${why:-the connection broke}; once more in $pause seconds, $(mib "$got") MiB are there"
    sleep "$pause"
    pause=$((pause < 15 ? pause * 2 : 30))
done
rm -f "$said"
mount -o remount,ro "$folder" || fail "it cannot be protected" "$folder is not mounted read-only" "report it"
# Where nixpkgs' netboot looks for it in the first file system.
ln -sfn "$place/nix-store.squashfs" "$root/nix-store.squashfs"
tell "the store is there, with the SHA-256 that it should have"
