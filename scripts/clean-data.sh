#!/usr/bin/env bash
# Removes what a stopped server left behind: its containers, mounts, network and data. Touches nothing that is not ours.
set -uo pipefail
. "$(dirname "$0")/common.sh"

require_root
case "$DATA_DIR" in
    /*/*) ;;
    *) echo "error: DATA_DIR=$DATA_DIR is not a directory of its own" >&2; exit 1 ;;
esac
agent="$DATA_DIR/agent"

# Processes whose command line names our containerd.
ours() { pgrep -f -- "$1.*$agent/" || true; }
descendants() {
    local child
    for child in $(pgrep -P "$1"); do
        descendants "$child"
        echo "$child"
    done
}

for pid in $(ours 'containerd '); do kill -TERM "$pid" 2>/dev/null; done
for shim in $(ours containerd-shim); do
    for pid in $(descendants "$shim") "$shim"; do kill -KILL "$pid" 2>/dev/null; done
done

# Sandboxes' network namespaces without a process left.
for name in $(ip netns list 2>/dev/null | awk '/^cni-/ {print $1}'); do
    [ -n "$(ip netns pids "$name")" ] || ip netns delete "$name"
done
for family in ip ip6 inet; do
    nft delete table "$family" xebec 2>/dev/null
done
for family in ip bridge; do
    nft delete table "$family" xebec-pods 2>/dev/null
done
ip link delete xebec0 2>/dev/null
# The cluster DNS address.
for address in $(ip -4 -o address show dev lo scope global 2>/dev/null | awk '{print $4}'); do
    case "$address" in 10.43.*/32) ip address delete "$address" dev lo ;; esac
done

# Mounts below the directory, deepest first.
awk -v dir="$DATA_DIR/" 'index($2, dir) == 1 {print $2}' /proc/mounts | sort -r | while read -r mount; do
    umount -l "$mount" 2>/dev/null
done
if [ -d "$agent/pods" ]; then
    for uid in $(ls "$agent/pods"); do rm -rf /var/log/pods/*_"$uid"; done
fi
# Links to logs that are gone, and cgroups of pods without a process (rmdir takes only empty ones).
find /var/log/containers -xtype l -delete 2>/dev/null
find /sys/fs/cgroup -depth -type d -path '*kubepods*' -name 'pod*' -exec rmdir {} + 2>/dev/null
rm -rf "${DATA_DIR:?}"/*
echo "Removed everything in $DATA_DIR."
