#!/usr/bin/env bash
# Stops the server that up.sh started. Containers keep running; clean-data.sh removes them.
set -euo pipefail
. "$(dirname "$0")/common.sh"

require_root
if ! running; then
    echo "xebec is not running."
    exit 0
fi
pid=$(cat "$PID_FILE")
kill -TERM "$pid"
deadline=$((SECONDS + 40))
while kill -0 "$pid" 2>/dev/null; do
    [ "$SECONDS" -lt "$deadline" ] || { echo "error: process $pid does not end; stop it with: kill -9 $pid" >&2; exit 1; }
    sleep 0.2
done
rm -f "$PID_FILE"
echo "xebec is stopped. Data stays in $DATA_DIR; 'make clean-data' wipes it, containers included."
