#!/usr/bin/env bash
# Every test: unit, property, tidy and whole-system. Whole-system tests need root, containerd and kubectl.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup-tests.sh
echo "==> Building the binary and all tests"
# In one go, so that both are built from the same dependencies.
cargo build --release --workspace --lib --bins --tests
scripts/build-planted-bugs.sh
if cargo nextest --version >/dev/null 2>&1; then
    # The same targets as above: nothing is compiled again.
    exec cargo nextest run --release --workspace --lib --bins --tests --no-fail-fast "$@"
fi
exec cargo test --release --workspace "$@"
