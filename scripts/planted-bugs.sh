#!/usr/bin/env bash
# Shows that the checkers of chaos find bugs: builds a store with bugs planted on purpose, and
# runs it once with each. Some minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
target="${CARGO_TARGET_DIR:-target}"
cargo build --release -p chaos
scripts/build-planted-bugs.sh
exec "$target/release/chaos" planted --program "$target/release/planted-bugs" --data-dir "$target/chaos-planted" "$@"
