#!/usr/bin/env bash
# Installs what building (`build`) or testing (`test`) needs and is missing. Debian's packages need root or sudo.
set -euo pipefail
what=${1:-build}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo "$@"; else
        echo "missing: $* (needs root)" >&2
        exit 1
    fi
}

packages=()
command -v cc >/dev/null || packages+=(gcc libc6-dev)
command -v python3 >/dev/null || packages+=(python3)
if [ "$what" = test ]; then
    python3 -c 'import venv, ensurepip' 2>/dev/null || packages+=(python3-venv)
fi
if [ ${#packages[@]} -gt 0 ]; then
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${packages[@]}"
fi

if ! command -v cargo >/dev/null; then
    echo "a Rust toolchain is missing: see https://rustup.rs" >&2
    exit 1
fi
if [ "$what" = test ] && ! command -v cargo-nextest >/dev/null; then
    cargo install --locked cargo-nextest
fi
