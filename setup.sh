#!/bin/sh
# Sets up this working copy: Debian packages, then a Python environment in .venv with everything but the lab's
# machines. Safe to run again: when nothing changed it only looks.
#
#   ./setup.sh [tests] [lab] [libvirt] [bench]
#   tests: the fast tests; lab: the machines of `make demo` and `make test`; libvirt: its daemon, for `make test`;
#   bench: `make bench`
#
# Asks once, on a terminal, before it installs packages; never when CI is set.
set -eu
cd "$(dirname "$0")"

stop() { # what, why, what to do
    printf '%s\n  why: %s\n  do:  %s\n' "$1" "$2" "$3" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif [ -n "${CI:-}" ]; then
        sudo -n -- "$@"
    else
        sudo -- "$@"
    fi
}

packages() { # every package of the lists, one a line; those with a ? where this distribution has them
    for list in $lists; do
        sed -e 's/[[:space:]].*//' -e '/^#/d' -e '/^$/d' "$list"
    done | sort -u | while read -r package; do
        case $package in
            *\?) if apt-cache show "${package%?}" >/dev/null 2>&1; then echo "${package%?}"; fi ;;
            *) echo "$package" ;;
        esac
    done
}

missing() { # those that are not installed, under their own name or one that another package provides (…t64)
    dpkg-query -W -f '${db:Status-Status}, ${Package}, ${Provides}\n' |
        sed -n 's/^installed, //p' | tr ',' '\n' | sed -e 's/^ *//' -e 's/[ :(].*//' -e '/^$/d' | sort -u >"$work/installed"
    packages | comm -23 - "$work/installed"
}

may_become_root() {
    [ "$(id -u)" = 0 ] && return
    command -v sudo >/dev/null || stop "This user cannot install packages or mount." \
        "it is not root, and sudo is not installed" \
        "run the same command as root, or install sudo and give $(id -un) the right to use it"
    as_root true || stop "This user cannot install packages or mount." \
        "sudo refused $(id -un)" "run the same command as root, or let $(id -un) use sudo (group sudo)"
}

may_run_the_lab() { # before anything is downloaded: what would fail only after minutes
    may_become_root
    as_root unshare --mount true 2>"$work/reason" || stop "The lab needs mount namespaces." \
        "$(tail -n 1 "$work/reason")" "run it where unshare(2) is allowed: a real or virtual machine, or a privileged container"
    as_root unshare --mount mount -t tmpfs tmpfs /tmp 2>"$work/reason" || stop "The lab needs to mount file systems." \
        "$(tail -n 1 "$work/reason")" "run it with CAP_SYS_ADMIN: a real or virtual machine, or a privileged container"
    as_root unshare --mount --user --map-root-user true 2>"$work/reason" || stop "The lab needs user namespaces: Nix builds in them." \
        "$(tail -n 1 "$work/reason")" "allow them: sysctl user.max_user_namespaces, and kernel.apparmor_restrict_unprivileged_userns on Ubuntu"
}

install_packages() {
    wanted=$(missing | tr '\n' ' ')
    [ -n "$wanted" ] || return 0
    may_become_root
    echo "Debian packages to install, with those they depend on:"
    for package in $wanted; do
        # shellcheck disable=SC2086 # one word each
        sed -n "s/^${package}?*[[:space:]][[:space:]]*#*[[:space:]]*/  $package: /p" $lists | head -n 1
    done
    if [ -z "${CI:-}" ] && [ -t 0 ]; then
        printf 'Install them with apt-get? [Y/n] '
        read -r answer || answer=n
        case $answer in
            '' | [Yy]*) ;;
            *) stop "Nothing was installed." "the answer was no" "install them yourself: apt-get install $wanted" ;;
        esac
    fi
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq || stop "The package lists cannot be fetched." \
        "apt-get update failed, see above" "check the network and /etc/apt/sources.list.d, then run this again"
    wanted=$(missing | tr '\n' ' ')
    # shellcheck disable=SC2086 # one word each
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $wanted >"$work/apt" 2>&1 || {
        tail -n 20 "$work/apt" >&2
        stop "The packages cannot be installed." "apt-get install failed, see above" \
            "run apt-get install $wanted by hand, mend what it names, then run this again"
    }
    still=$(missing | tr '\n' ' ')
    [ -z "$still" ] || stop "Some packages are not installed though apt-get ended well." \
        "dpkg does not know as installed: $still" "install them by hand, then run this again"
}

install_python() {
    python=
    for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            python=$candidate
            break
        fi
    done
    [ -n "$python" ] || stop "No Python of version 3.11 or later with venv was found." \
        "python3 is $(python3 -V 2>&1 || true)" "use Debian 12, Ubuntu 24.04 or later, or the flake: nix develop"
    stamp=$({ pwd; "$python" -VV; cat pyproject.toml constraints.txt; } | sha256sum)
    if [ "$(cat .venv/stamp 2>/dev/null)" = "$stamp" ] && .venv/bin/python -c 'import pydantic' 2>/dev/null; then
        return 0
    fi
    echo "Python environment: installing into .venv with $("$python" -V)"
    .venv/bin/python -c 'import pip' 2>/dev/null || {
        rm -rf .venv
        "$python" -m venv .venv || stop "The Python environment cannot be made." "$python -m venv failed, see above" \
            "check that $PWD can be written and has room, then run this again"
    }
    # A pip from before 25.2 writes an hv that loads regular expressions at every start, for a name that Windows has.
    if ! .venv/bin/python -m pip install --quiet --disable-pip-version-check 'pip>=25.2' ||
        ! .venv/bin/python -m pip install --quiet --use-pep517 --constraint constraints.txt \
            --editable '.[host,server,postgresql,dev,docs]'; then
        stop "The Python packages cannot be installed." "pip failed, see above" \
            "check the network (pip's settings: PIP_INDEX_URL, PIP_CERT, PIP_PROXY), then run this again"
    fi
    echo "$stamp" >.venv/stamp
}

lists=packages.txt
lab=
for part in "$@"; do
    case $part in
        lab) lab=yes lists="$lists tests/lab/packages.txt" ;;
        tests) lists="$lists tests/packages.txt" ;;
        libvirt) lists="$lists tests/packages-libvirt.txt" ;;
        bench) lists="$lists tests/bench/packages.txt" ;;
        *) stop "There is nothing called '$part' to set up." "the parts are: tests, lab, libvirt, bench" "see the head of setup.sh" ;;
    esac
done
command -v apt-get >/dev/null || stop "This is not a Debian-like system." \
    "apt-get is not here" "use Debian 12, Ubuntu 24.04 or later, or the flake: nix develop"

mkdir -p .cache
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
exec 9>.cache/setup.lock
flock 9
[ -z "$lab" ] || may_run_the_lab
install_packages
install_python
