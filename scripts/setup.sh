#!/usr/bin/env bash
# Installs what building and running Xebec needs on Debian or Ubuntu, and names what cannot be installed.
set -euo pipefail

missing=()
need() { # need PACKAGE TEST...
    local package=$1
    shift
    "$@" >/dev/null 2>&1 || missing+=("$package")
}
has() { command -v "$1" || test -x "/usr/sbin/$1" || test -x "/sbin/$1"; }
# The development link: libclang-cpp, which many machines have, is another library.
libclang() { compgen -G '/usr/lib/llvm-*/lib/libclang.so' || compgen -G '/usr/lib*/libclang.so'; }

need build-essential has c++
need pkg-config has pkg-config
need cmake has cmake
need libclang-dev libclang
need protobuf-compiler has protoc
need containerd has containerd
need runc has runc
need nftables has nft
need iproute2 has ip
need containernetworking-plugins test -x /usr/lib/cni/bridge
need busybox-static test -x /bin/busybox
need ca-certificates test -d /etc/ssl/certs
need curl has curl

if [ "${#missing[@]}" -gt 0 ]; then
    install="apt-get install -y --no-install-recommends ${missing[*]}"
    if ! command -v apt-get >/dev/null; then
        echo "error: missing: ${missing[*]} (Debian's names). Install them with this system's package manager." >&2
        exit 1
    fi
    if [ "$(id -u)" != 0 ]; then
        echo "error: missing packages, and not root. Run: sudo $install" >&2
        exit 1
    fi
    echo "==> Installing ${missing[*]}"
    log=$(mktemp)
    if ! { apt-get update -q && DEBIAN_FRONTEND=noninteractive $install; } >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        echo "error: could not install. Run by hand: $install" >&2
        exit 1
    fi
fi

# Newer distributions have rustup as a package; elsewhere its own installer is the way.
if ! command -v cargo >/dev/null && [ "$(id -u)" = 0 ] && apt-cache show rustup >/dev/null 2>&1; then
    echo "==> Installing rustup and the stable Rust toolchain"
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends rustup >/dev/null
    rustup default stable
fi
if ! command -v cargo >/dev/null; then
    echo "error: no Rust toolchain (1.90 or newer is needed). Install it, open a new shell, and try again:" >&2
    echo "  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal" >&2
    exit 1
fi
