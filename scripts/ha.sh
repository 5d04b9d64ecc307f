#!/usr/bin/env bash
# Three masters and two agents on this machine, each in a network namespace with an address of its own; then the example.
# Nothing of it touches the machine's own network but one bridge. Where it is up already, whoever was killed is started
# again. `make ha-down` removes it all.
set -euo pipefail
. "$(dirname "$0")/ha-common.sh"

require_root
if ! command -v kubectl >/dev/null; then
    echo "error: this needs kubectl, in a version near 1.36: https://kubernetes.io/docs/tasks/tools/" >&2
    exit 1
fi
if [ -e "$HA_DIR/masters" ]; then
    ip link show "$BRIDGE" >/dev/null 2>&1 || { echo "error: the network is gone, the data in $HA_DIR is not; 'make ha-down' removes it" >&2; exit 1; }
    for number in $MASTERS; do
        runs "$number" || start_master "$number"
        wait_for 60 "master $NETWORK.$number" "$number" "$XEBEC" status --check api --kubeconfig "$(kubeconfig "$number")"
    done
    for number in $AGENTS; do
        runs "$number" || start_agent "$number"
        wait_for 120 "agent $NETWORK.$number" "$number" node_is_ready "agent-$number"
    done
    "$XEBEC" status --kubeconfig "$(kubeconfig "${MASTERS%% *}")"
    exit
fi
trap 'echo "error: it did not come up; logs are in $HA_DIR/*.log, '"'make ha-down'"' removes it" >&2' ERR
mkdir -p "$HA_DIR"
touch "$HA_DIR/masters"

ip link add "$BRIDGE" type bridge
ip addr add "$NETWORK.1/24" dev "$BRIDGE"
ip link set "$BRIDGE" up
for number in $MASTERS $AGENTS; do plug_in "$number"; done

first=${MASTERS%% *}
for number in $MASTERS; do
    flags=""
    if [ "$number" != "$first" ]; then
        flags="--join https://$NETWORK.$first:6443"
        XEBEC_TOKEN=$("$XEBEC" token create --role server --kubeconfig "$(kubeconfig "$first")")
        export XEBEC_TOKEN
    fi
    start_master "$number" $flags
    wait_for 60 "master $NETWORK.$number" "$number" "$XEBEC" status --check api --kubeconfig "$(kubeconfig "$number")"
done
XEBEC_TOKEN=$("$XEBEC" token create --kubeconfig "$(kubeconfig "$first")")
export XEBEC_TOKEN
for number in $AGENTS; do
    mkdir -p "$HA_DIR/$number/agent/images"
    cp "$CARGO_TARGET_DIR/xebec-example.tar" "$HA_DIR/$number/agent/images/"
    start_agent "$number"
done
unset XEBEC_TOKEN
for number in $AGENTS; do wait_for 120 "agent $NETWORK.$number" "$number" node_is_ready "agent-$number"; done

KUBECONFIG=$(kubeconfig "$first")
export KUBECONFIG
kubectl apply -f examples/hello.yaml
kubectl rollout status deployment/hello --timeout=120s
for number in $AGENTS; do
    echo "==> http://$NETWORK.$number:30080 says:"
    wait_for 60 "the Service" "$number" curl -sf -m 2 -o /dev/null "http://$NETWORK.$number:30080"
    curl -sf -m 5 "http://$NETWORK.$number:30080"
done
echo
"$XEBEC" status

cat <<EOF

Three masters and two agents are up. Any master may go:

  export KUBECONFIG=$(kubeconfig "${MASTERS##* }")
  kubectl get nodes,pods -o wide
  kill -9 \$(cat $HA_DIR/$first.pid)
  kubectl scale deployment hello --replicas=10 && kubectl get pods -w

'make ha' starts again what was killed; 'make ha-down' removes everything.
EOF
