#!/usr/bin/env bash
# Formatting, lints and dependency rules; any finding fails.
set -euo pipefail
cd "$(dirname "$0")/.."

echo "==> rustfmt"
cargo fmt --all --check
echo "==> clippy"
cargo clippy --release --workspace --all-targets -- -D warnings
echo "==> cargo deny"
if ! cargo deny --version >/dev/null 2>&1; then
    cargo install --locked --quiet cargo-deny --target-dir "${CARGO_TARGET_DIR:-target}/tools"
fi
cargo deny check licenses bans sources
