#!/usr/bin/env bash
# Stops what ha.sh started and removes it: containers, namespaces, data.
set -euo pipefail
. "$(dirname "$0")/ha-common.sh"

require_root
for number in $AGENTS; do
    [ -f "$HA_DIR/$number.pid" ] || continue
    pid=$(cat "$HA_DIR/$number.pid")
    kill -TERM "$pid" 2>/dev/null || continue
    deadline=$((SECONDS + 40))
    while runs "$number"; do
        [ "$SECONDS" -lt "$deadline" ] || { kill -KILL "$pid"; break; }
        sleep 0.2
    done
done
# What masters hold is removed below: nothing has to be handed over.
for number in $MASTERS; do
    [ -f "$HA_DIR/$number.pid" ] && kill -KILL "$(cat "$HA_DIR/$number.pid")" 2>/dev/null || true
done
for number in $AGENTS; do
    [ -e "/run/netns/$BRIDGE-$number" ] || continue
    # In its namespace, so that the machine's own rules stay.
    DATA_DIR="$HA_DIR/$number" nsenter --net="/run/netns/$BRIDGE-$number" -- "$(dirname "$0")/clean-data.sh"
done
for number in $MASTERS $AGENTS; do ip netns del "$BRIDGE-$number" 2>/dev/null || true; done
ip link del "$BRIDGE" 2>/dev/null || true
rm -rf "$HA_DIR"
echo "The masters and agents of 'make ha' are gone, data included."
