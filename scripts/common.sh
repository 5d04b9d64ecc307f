# Shared by the scripts: where things are, and how to wait. Sourced, not run.
: "${DATA_DIR:=/var/lib/xebec}" "${CARGO_TARGET_DIR:=$HOME/.cache/xebec/target}"
: "${XEBEC:=$CARGO_TARGET_DIR/dist/xebec}" "${RUN_DIR:=/run/xebec}"
PID_FILE="$RUN_DIR/server.pid"
LOG_FILE="$DATA_DIR/server.log"
KUBECONFIG_FILE="$DATA_DIR/server/admin.kubeconfig"

require_root() {
    [ "$(id -u)" = 0 ] || { echo "error: this needs root (containers, networks). Try: sudo make ${MAKECMDGOALS:-up}" >&2; exit 1; }
}

running() { [ -f "$PID_FILE" ] && kill -0 "$(cat "$PID_FILE")" 2>/dev/null; }

api_ready() { [ -f "$KUBECONFIG_FILE" ] && "$XEBEC" status --kubeconfig "$KUBECONFIG_FILE" --check api; }
node_ready() { "$XEBEC" status --kubeconfig "$KUBECONFIG_FILE" --check node; }

# wait_until SECONDS WHAT COMMAND...
wait_until() {
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    printf '==> Waiting for %s ' "$what"
    until "$@" >/dev/null 2>&1; do
        if ! running; then
            printf '\n'
            tail -n 15 "$LOG_FILE" >&2
            echo "error: xebec server ended; its log is $LOG_FILE" >&2
            exit 1
        fi
        if [ "$SECONDS" -ge "$deadline" ]; then
            printf '\n'
            tail -n 15 "$LOG_FILE" >&2
            echo "error: $what is not ready; the log is $LOG_FILE" >&2
            exit 1
        fi
        printf '.'
        sleep 0.3
    done
    printf ' ready\n'
}
