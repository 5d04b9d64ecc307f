#!/usr/bin/env bash
# Compiles RocksDB's C++ once per version and keeps the library, so that no later build (other profile, other features,
# fresh clone) compiles it again: cargo finds it by ROCKSDB_LIB_DIR. Takes some ten minutes on two cores.
set -euo pipefail
cd "$(dirname "$0")/.."

: "${ROCKSDB_LIB_DIR:?the Makefile sets this}"
version=$(grep -A1 '^name = "librocksdb-sys"' Cargo.lock | sed -n 's/^version = "\(.*\)"/\1/p')
if [ "$(cat "$ROCKSDB_LIB_DIR/version" 2>/dev/null)" = "$version" ]; then
    exit 0
fi
echo "==> Compiling RocksDB $version"
built=$(env -u ROCKSDB_LIB_DIR -u ROCKSDB_STATIC \
    cargo build --release -p librocksdb-sys --message-format=json-render-diagnostics |
    sed -n 's/.*"reason":"build-script-executed","package_id":"[^"]*librocksdb-sys[^"]*".*"out_dir":"\([^"]*\)".*/\1/p')
mkdir -p "$ROCKSDB_LIB_DIR"
cp "$built/librocksdb.a" "$ROCKSDB_LIB_DIR/"
echo "$version" >"$ROCKSDB_LIB_DIR/version"
