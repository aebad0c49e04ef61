#!/usr/bin/env bash
# traceroute.sh HOST HOPS QUERIES
host=$1
hops=${2:-30}
queries=${3:-3}
if ! command -v traceroute >/dev/null; then
    echo "traceroute is not installed" >&2
    exit 2
fi
exec traceroute -q "$queries" -m "$hops" "$host"
