#!/usr/bin/env bash
# A three-node cluster on this machine, for people to try: `cluster.sh up`, `cluster.sh down`.
#
# Everything lies in target/cluster: servers/ (MongoDB, RabbitMQ, PostgreSQL), pki/ (authority and certificates),
# nodes/<id>/{config.toml,data,log,pid}, haproxy/, and env, which points st2 at the load balancer's address.
#
# TRIAL_PORT (21000): the load balancer's port; node i takes this + 10 i (HTTP) and the next one (nodes among
# themselves). TRIAL_MONGO_MEMBERS (1): members of MongoDB's replica set.
set -euo pipefail
cd "$(dirname "$0")/.."

base=${TRIAL_PORT:-21000}
members=${TRIAL_MONGO_MEMBERS:-1}
names=(n1 n2 n3)
bin=${CARGO_TARGET_DIR:-$HOME/.cache/squall/target}/release
root=$PWD/target/cluster
haproxy=$(command -v haproxy || echo /usr/sbin/haproxy)

say() { echo "$*" >&2; }
fail() { say "cluster: $*"; exit 1; }

# Whether the process of a pid file is still the one that was started with this file.
running() { # pid-file, config
    local pid
    pid=$(cat "$1" 2>/dev/null) || return 1
    [ -n "$pid" ] && [ -r "/proc/$pid/cmdline" ] && tr '\0' '\n' <"/proc/$pid/cmdline" | grep -qxF -- "$2"
}

# Ends one process in an orderly way; what doesn't follow within the deadline is killed.
finish() { # pid-file, config, seconds
    local pid i
    if running "$1" "$2"; then
        pid=$(cat "$1")
        kill -TERM "$pid" 2>/dev/null || true
        for ((i = 0; i < $3 * 10; i++)); do
            running "$1" "$2" || break
            sleep 0.1
        done
        if running "$1" "$2"; then
            say "process $pid doesn't stop, it is killed"
            kill -KILL "$pid" 2>/dev/null || true
        fi
    fi
    rm -f "$1"
}

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Whether each server answers where the environment file says.
servers_run() {
    [ -f "$root/servers.env" ] || return 1
    local url port
    while read -r url; do
        port=$(grep -oE '127\.0\.0\.1:[0-9]+' <<<"$url" | head -n 1 | cut -d: -f2)
        [ -n "$port" ] && listens "$port" || return 1
    done <"$root/servers.env"
}

fill() { # template, target, KEY=VALUE...
    local text pair
    text=$(cat "$1")
    for pair in "${@:3}"; do
        text=${text//"@${pair%%=*}@"/"${pair#*=}"}
    done
    (umask 077 && printf '%s\n' "$text" >"$2")
}

start_servers() {
    if servers_run; then return; fi
    [ -x "$bin/servers" ] || fail "$bin/servers is missing: run make cluster"
    # Without their servers' data, the nodes' own is of no use.
    down
    mkdir -p "$root"
    say "starting MongoDB, RabbitMQ and PostgreSQL"
    (umask 077 && "$bin/servers" up --dir "$root/servers" --env-file "$root/servers.env" \
        --mongo-members "$members" mongodb rabbitmq postgres >/dev/null)
}

make_certificates() {
    local name
    [ -f "$root/pki/ca.pem" ] || "$bin/squall" cluster init-ca --dir "$root/pki" --name squall >/dev/null
    for name in "${names[@]}"; do
        [ -f "$root/pki/$name/cert.pem" ] || "$bin/squall" cluster cert --ca-dir "$root/pki" --name "$name" \
            --host 127.0.0.1 --out "$root/pki/$name" >/dev/null
    done
}

start_nodes() {
    local i name dir peers=""
    # shellcheck disable=SC1091
    . "$root/servers.env"
    for i in "${!names[@]}"; do
        peers+="${peers:+, }\"127.0.0.1:$((base + 10 * (i + 1) + 1))\""
    done
    for i in "${!names[@]}"; do
        name=${names[$i]} dir=$root/nodes/${names[$i]}
        mkdir -p "$dir"
        if running "$dir/pid" "$dir/config.toml"; then continue; fi
        fill deploy/cluster/node.toml.in "$dir/config.toml" "NAME=$name" "DIR=$dir" "PKI=$root/pki" "PEERS=$peers" \
            "PORT=$((base + 10 * (i + 1)))" "RAFT_PORT=$((base + 10 * (i + 1) + 1))" "LB_PORT=$base" \
            "MONGODB=$SQUALL_TEST_MONGODB" "RABBITMQ=$SQUALL_TEST_RABBITMQ" "POSTGRES=$SQUALL_TEST_POSTGRES"
        say "starting node $name"
        setsid "$bin/squall" server --config "$dir/config.toml" </dev/null >>"$dir/log" 2>&1 &
        echo $! >"$dir/pid"
    done
}

start_balancer() {
    local i dir=$root/haproxy
    mkdir -p "$dir"
    if running "$dir/pid" "$dir/haproxy.cfg"; then return; fi
    [ -x "$haproxy" ] || fail "haproxy is missing: scripts/deps.sh cluster installs it"
    fill deploy/cluster/haproxy.cfg.in "$dir/haproxy.cfg" "PORT=$base"
    for i in "${!names[@]}"; do
        echo "    server ${names[$i]} 127.0.0.1:$((base + 10 * (i + 1)))" >>"$dir/haproxy.cfg"
    done
    setsid "$haproxy" -db -f "$dir/haproxy.cfg" </dev/null >>"$dir/log" 2>&1 &
    echo $! >"$dir/pid"
}

ready() { [ "$(curl -s -o /dev/null -m 2 -w '%{http_code}' "http://127.0.0.1:$1/healthz/ready")" = 200 ]; }

wait_ready() {
    local i name deadline=$((SECONDS + 90))
    for i in "${!names[@]}"; do
        name=${names[$i]}
        until ready $((base + 10 * (i + 1))); do
            running "$root/nodes/$name/pid" "$root/nodes/$name/config.toml" ||
                fail "node $name has ended: see $root/nodes/$name/log"
            if [ $SECONDS -ge $deadline ]; then
                curl -s -m 2 "http://127.0.0.1:$((base + 10 * (i + 1)))/healthz/ready" >&2 || true
                fail "node $name isn't ready: see $root/nodes/$name/log"
            fi
            sleep 0.2
        done
    done
    until ready "$base"; do
        [ $SECONDS -lt $deadline ] || fail "the load balancer isn't ready: see $root/haproxy/log"
        sleep 0.1
    done
}

write_environment() {
    local url=http://127.0.0.1:$base password token
    password=$(cat "$root/nodes/n1/data/admin-password")
    # The password goes in by standard input: arguments are everybody's to see.
    token=$(printf 'user = "st2admin:%s"\n' "$password" | curl -sS -m 10 -K - -X POST "$url/auth/v1/tokens" |
        grep -oE '"token": *"[^"]+"' | cut -d'"' -f4)
    [ -n "$token" ] || fail "can't log in at $url"
    (umask 077 && cat >"$root/env" <<END
export ST2_BASE_URL=$url
export ST2_API_URL=$url/api/v1
export ST2_AUTH_URL=$url/auth/v1
export ST2_STREAM_URL=$url/stream/v1
export ST2_AUTH_TOKEN=$token
END
    )
}

hints() {
    cat <<END
Three nodes are ready behind http://127.0.0.1:$base (/auth, /api, /stream).
User st2admin, password in $root/nodes/n1/data/admin-password.

Try:
  . target/cluster/env                                     # points st2 at the load balancer
  export PATH=$bin:\$PATH
  st2 run core.local cmd='hostname; date'
  squall cluster status                                    # leader, sessions, duties
  kill -9 \$(cat target/cluster/nodes/n1/pid)               # it goes on; scripts/cluster.sh up starts n1 again
  make cluster-down
END
}

up() {
    [ "$base" -gt 1024 ] && [ "$base" -lt 32700 ] || fail "TRIAL_PORT must lie between 1025 and 32700"
    start_servers
    make_certificates
    start_nodes
    start_balancer
    wait_ready
    write_environment
    hints
}

down() {
    local name
    [ -d "$root" ] || return 0
    rm -f "$root/env"
    finish "$root/haproxy/pid" "$root/haproxy/haproxy.cfg" 5
    # All at once: they needn't hand anything over.
    for name in "${names[@]}"; do
        finish "$root/nodes/$name/pid" "$root/nodes/$name/config.toml" 60 &
    done
    wait
    if [ -d "$root/servers" ]; then
        "$bin/servers" down --dir "$root/servers"
    fi
    rm -f "$root/servers.env"
    for name in "${names[@]}"; do rm -rf "$root/nodes/$name/data"; done
}

case ${1:-} in
up | down) "$1" ;;
*) fail "usage: $0 up|down" ;;
esac
