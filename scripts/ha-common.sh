# Shared by ha.sh and ha-down.sh: addresses, namespaces, processes. Sourced, not run.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
: "${HA_DIR:=/var/lib/xebec-ha}" "${NETWORK:=172.30.99}" "${BRIDGE:=xebec-ha}"
# The last numbers of the hosts' addresses.
MASTERS="11 12 13" AGENTS="21 22"

kubeconfig() { echo "$HA_DIR/$1/server/admin.kubeconfig"; }

# A namespace with an address on the bridge.
plug_in() {
    local name="$BRIDGE-$1"
    ip netns add "$name"
    ip link add "$name" type veth peer name eth0 netns "$name"
    ip link set "$name" master "$BRIDGE" up
    ip -n "$name" link set lo up
    ip -n "$name" addr add "$NETWORK.$1/24" dev eth0
    ip -n "$name" link set eth0 up
    ip -n "$name" route add default via "$NETWORK.1"
}

# start NUMBER COMMAND FLAGS...
start() {
    local number=$1 command=$2
    shift 2
    mkdir -p "$HA_DIR/$number"
    # Not `ip netns exec`: that hides /sys, which containers need.
    setsid nsenter --net="/run/netns/$BRIDGE-$number" -- "$XEBEC" "$command" --data-dir "$HA_DIR/$number" "$@" \
        >>"$HA_DIR/$number.log" 2>&1 </dev/null &
    echo $! >"$HA_DIR/$number.pid"
}

# start_master NUMBER FLAGS...
start_master() {
    local number=$1
    shift
    start "$number" server --disable-agent --node-name "master-$number" --advertise-address "$NETWORK.$number" "$@"
}

start_agent() {
    start "$1" agent --node-name "agent-$1" --node-ip "$NETWORK.$1" --server "https://$NETWORK.${MASTERS%% *}:6443"
}

# One that has ended but whose parent has not noticed does not run.
runs() { [ -e "/proc/$(cat "$HA_DIR/$1.pid")/exe" ]; }

node_is_ready() {
    kubectl --kubeconfig "$(kubeconfig "${MASTERS%% *}")" get node "$1" --no-headers 2>/dev/null | grep -q ' Ready '
}

# wait_for SECONDS WHAT NUMBER COMMAND...: fails when the process of that number ends.
wait_for() {
    local deadline=$((SECONDS + $1)) what=$2 number=$3
    shift 3
    printf '==> Waiting for %s ' "$what"
    until "$@" >/dev/null 2>&1; do
        if ! runs "$number" || [ "$SECONDS" -ge "$deadline" ]; then
            printf '\n'
            tail -n 15 "$HA_DIR/$number.log" >&2
            return 1
        fi
        printf '.'
        sleep 0.3
    done
    printf ' ready\n'
}
