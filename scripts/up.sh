#!/usr/bin/env bash
# Starts `xebec server` in the background, waits until its node is Ready, and says what to type next.
set -euo pipefail
. "$(dirname "$0")/common.sh"

require_root
if running; then
    echo "xebec is already running (process $(cat "$PID_FILE")); 'make down' stops it."
else
    mkdir -p "$DATA_DIR/agent/images" "$RUN_DIR"
    cp -u "$CARGO_TARGET_DIR/xebec-example.tar" "$DATA_DIR/agent/images/"
    echo "==> Starting xebec server (data in $DATA_DIR, log in $LOG_FILE)"
    setsid "$XEBEC" server --data-dir "$DATA_DIR" ${XEBEC_FLAGS:-} >"$LOG_FILE" 2>&1 </dev/null &
    echo $! >"$PID_FILE"
fi

wait_until 120 "the API server" api_ready
wait_until 120 "the node" node_ready

cat <<EOF

Xebec is up. Kubeconfig: $KUBECONFIG_FILE

  export KUBECONFIG=$KUBECONFIG_FILE
  kubectl get nodes
  kubectl apply -f examples/hello.yaml
  kubectl get pods,services -w
EOF
