#!/usr/bin/env bash
# Builds a store with bugs planted on purpose, of which its environment chooses one. It lies beside the binary, and serves
# nobody but the test of chaos' checkers.
set -euo pipefail
cd "$(dirname "$0")/.."
target="${CARGO_TARGET_DIR:-target}"
echo "==> Building a store with planted bugs"
# --workspace: with the dependencies of all other builds. Only the two crates that the feature changes are compiled
# again, and in a hurry.
cargo build --release --workspace --example serve --features etcd-api/planted-bugs \
    --config 'profile.release.package.raft-store.opt-level=1' \
    --config 'profile.release.package.etcd-api.opt-level=1'
cp "$target/release/examples/serve" "$target/release/planted-bugs"
