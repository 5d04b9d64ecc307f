# The commands of the README. Everything they do is in scripts/, one file each.
.PHONY: up down ha ha-down clean-data build test lint setup images rocksdb

# Where a cluster lives; override with `make up DATA_DIR=…`.
DATA_DIR ?= /var/lib/xebec
# Build output outside the clone, so that a new clone does not compile RocksDB again.
CARGO_TARGET_DIR ?= $(HOME)/.cache/xebec/target
# RocksDB is compiled once into this folder and linked from there.
ROCKSDB_LIB_DIR ?= $(HOME)/.cache/xebec/rocksdb
ROCKSDB_STATIC ?= 1
export DATA_DIR CARGO_TARGET_DIR ROCKSDB_LIB_DIR ROCKSDB_STATIC

up: setup build images
	@scripts/up.sh

down:
	@scripts/down.sh

ha: setup build images
	@scripts/ha.sh

ha-down:
	@scripts/ha-down.sh

clean-data: down
	@scripts/clean-data.sh

setup:
	@scripts/setup.sh

rocksdb: setup
	@scripts/rocksdb.sh

build: rocksdb
	@echo "==> Building xebec"
	@cargo build --profile dist --bin xebec

images:
	@scripts/build-example-image.sh "$(CARGO_TARGET_DIR)/xebec-example.tar"

test: rocksdb images
	@scripts/test.sh

lint: rocksdb
	@scripts/lint.sh
