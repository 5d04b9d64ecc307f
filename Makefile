# The commands of the README. Everything they do is in scripts/, one file each.
.PHONY: up down clean-data build test lint setup images

# Where a cluster lives; override with `make up DATA_DIR=…`.
DATA_DIR ?= /var/lib/xebec
# Build output outside the clone, so that a new clone does not compile RocksDB again.
CARGO_TARGET_DIR ?= $(HOME)/.cache/xebec/target
export DATA_DIR CARGO_TARGET_DIR

up: setup build images
	@scripts/up.sh

down:
	@scripts/down.sh

clean-data: down
	@scripts/clean-data.sh

setup:
	@scripts/setup.sh

build:
	@echo "==> Building xebec (the first time takes 15 to 25 minutes: RocksDB is C++)"
	@cargo build --release --bin xebec

images:
	@scripts/build-example-image.sh "$(CARGO_TARGET_DIR)/xebec-example.tar"

test: setup build images
	@scripts/test.sh

lint: setup
	@scripts/lint.sh
