#!/usr/bin/env bash
# Everything that must pass. Prints what it does and how long each step took.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$HOME/.cache/squall/target}
# Nothing here is built twice: without incremental caches the target directory stays a third smaller.
export CARGO_INCREMENTAL=${CARGO_INCREMENTAL:-0}

step() {
    local name=$1 begin=$SECONDS
    shift
    echo "== $name: $*"
    "$@"
    echo "== $name took $((SECONDS - begin)) s"
}

step format cargo fmt --all --check
step lints cargo clippy --workspace --all-targets --locked -- -D warnings
step binaries cargo build --locked -p node -p cli
step servers cargo build --locked -p servers
servers=$PWD/target/servers
# Whatever happens, no server outlives this.
trap '"$CARGO_TARGET_DIR/debug/servers" down --dir "$servers"' EXIT
step "start servers" "$CARGO_TARGET_DIR/debug/servers" up --dir "$servers" --env-file "$servers.env"
# shellcheck disable=SC1091
. "$servers.env"
export SQUALL_TEST_REQUIRE_SERVERS=1
step "Python SDK" python3 -m unittest discover -q -s sdk/python/tests -t sdk/python
step tests cargo nextest run --workspace --locked --profile ci
