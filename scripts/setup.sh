#!/bin/sh
# Installs what building and running Terraphim CI needs and this Debian or Ubuntu machine lacks.
# Says nothing and changes nothing when all is there. Asks for root with sudo, and only to install packages.
set -eu

# What each package is for: run a VM (qemu-system-x86), build images (mmdebstrap squashfs-tools e2fsprogs uidmap
# debian-archive-keyring), build the programs (build-essential), check images in tests (cpio lz4 qemu-utils), see what
# a workflow's repository holds (git), install Rust and fetch packages (curl ca-certificates).
packages="qemu-system-x86 mmdebstrap squashfs-tools e2fsprogs uidmap debian-archive-keyring build-essential cpio lz4 qemu-utils git curl ca-certificates"

say() { echo "setup: $*" >&2; }
die() { say "$@"; exit 1; }

# Lists the packages that are not installed.
missing() {
    for package in $packages; do
        case $(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null) in
            ?i*) ;;
            *) echo "$package" ;;
        esac
    done
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

apt_install() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"
}

# An installed qemu-utils from a newer suite than the one that offers qemu-system-x86 blocks it: both need the same version
# of what they share.
align_qemu_utils() {
    version=$(apt-cache policy qemu-system-x86 | sed -n 's/^ *Candidate: //p')
    if [ -z "$version" ] || [ "$version" = "(none)" ]; then
        return 1
    fi
    say "qemu-utils does not fit the qemu-system-x86 that apt offers: changing it to version $version"
    apt_install --allow-downgrades "qemu-utils=$version"
}

install_packages() {
    lacking=$(missing | tr '\n' ' ')
    if [ -z "$lacking" ]; then
        return
    fi
    if [ "$(id -u)" != 0 ]; then
        command -v sudo > /dev/null || die "run this as root, or install these packages yourself: $lacking"
        say "sudo will be used to install packages"
    fi
    say "installing: $lacking"
    # Lists may be missing or old, and some source of the host may be out of reach without being needed here.
    as_root apt-get update -q || say "some package lists could not be fetched; going on with those there are"
    # The names are words to be split.
    # shellcheck disable=SC2086
    apt_install $lacking || align_qemu_utils || die "cannot install: $lacking"
    # What is lacking now either waited for qemu-utils, or is qemu-utils itself, which apt removed to make room.
    lacking=$(missing | tr '\n' ' ')
    # shellcheck disable=SC2086
    [ -z "$lacking" ] || apt_install $lacking || die "cannot install: $lacking"
}

# Building an image as an ordinary user takes a range of user ids to unpack the system's files with. Debian and Ubuntu give
# one to every user that `adduser` makes; users made otherwise may lack it.
give_subordinate_ids() {
    user=$(id -un)
    if [ "$(id -u)" = 0 ] || { grep -q "^$user:" /etc/subuid && grep -q "^$user:" /etc/subgid; } 2> /dev/null; then
        return
    fi
    # Above every range that is taken: ranges of two users must not meet.
    first=$(cat /etc/subuid /etc/subgid 2> /dev/null | awk -F: '$2 + $3 > top { top = $2 + $3 } END { print (top > 100000 ? top : 100000) }')
    last=$((first + 65535))
    say "sudo will be used to give $user the user ids $first to $last for building images"
    as_root usermod --add-subuids "$first-$last" --add-subgids "$first-$last" "$user"
}

check_rust() {
    command -v cargo > /dev/null && return
    if [ -x "$HOME/.cargo/bin/cargo" ]; then
        die "Rust is installed but not in the path; run: . \"\$HOME/.cargo/env\""
    fi
    die "Rust is missing; install it (https://rustup.rs) and run this again:
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y
    . \"\$HOME/.cargo/env\""
}

command -v dpkg-query > /dev/null || die "this machine has no dpkg: Debian 12 or 13, or Ubuntu 24.04 or later, is needed"
[ "$(dpkg --print-architecture)" = amd64 ] || die "this machine is not an amd64: VMs of another processor are not supported yet"
install_packages
give_subordinate_ids
check_rust
