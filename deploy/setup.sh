#!/usr/bin/env bash
# Installs what is missing to build GateKey (`setup.sh build`), or to test it too (`setup.sh`), on
# Debian 12 or Ubuntu 24.04 with Rust on it. Says nothing and asks for nothing where all is there.
set -euo pipefail

# Where Debian keeps nft, ip and openvpn, which a plain user's PATH may lack.
PATH=$PATH:/usr/sbin:/sbin

missing=()

# need COMMAND PACKAGE…: the packages, where the command is not to be had.
need() {
    command -v "$1" >/dev/null || missing+=("${@:2}")
}

need cc gcc libc6-dev
need pkg-config pkg-config
need curl curl
need jq jq
need openssl openssl
if [ "${1:-test}" != build ]; then
    need ip iproute2
    need nft nftables
    need openvpn openvpn
    need ping iputils-ping
    need pip3 python3-pip
    need ps procps
    need setpriv util-linux
    need shellcheck shellcheck
    need wrk wrk
    need xz xz-utils
    # Debian keeps a server's binaries out of PATH, by major version.
    compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || missing+=(postgresql)
fi

if [ ${#missing[@]} -gt 0 ]; then
    if ! command -v apt-get >/dev/null; then
        echo "Please install what these Debian packages hold: ${missing[*]}" >&2
        exit 1
    fi
    as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || { echo "Run as root: apt-get install ${missing[*]}" >&2; exit 1; }
        as_root=(sudo)
    fi
    echo "Installing ${missing[*]}" >&2
    # The tests start clusters of their own: one that stands on port 5432 is not wanted. Only for
    # this installation, so that a later one is as its owner expects.
    no_cluster=/etc/postgresql-common/createcluster.d/gatekey-setup.conf
    "${as_root[@]}" mkdir -p "${no_cluster%/*}"
    echo 'create_main_cluster = false' | "${as_root[@]}" tee "$no_cluster" >/dev/null
    trap '"${as_root[@]}" rm -f "$no_cluster"' EXIT
    apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300)
    "${apt[@]}" update >/dev/null
    "${apt[@]}" install --no-install-recommends "${missing[@]}" >/dev/null
fi

if ! command -v cargo >/dev/null; then
    echo "Please install Rust (https://rustup.rs)" >&2
    exit 1
fi
