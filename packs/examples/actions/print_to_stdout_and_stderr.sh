#!/usr/bin/env bash
# Prints lines to standard output and standard error in turn: COUNT SECONDS, or --count=N --sleep_delay=SECONDS.
count=100
delay=0.5
case "$1" in
    --* | "") ;;
    *)
        count=$1
        delay=${2:-$delay}
        ;;
esac
for argument in "$@"; do
    case "$argument" in
        --count=*) count=${argument#*=} ;;
        --sleep_delay=*) delay=${argument#*=} ;;
    esac
done
for ((i = 1; i <= count; i++)); do
    if ((i % 2)); then
        echo "stderr line $i" >&2
    else
        echo "stdout line $i"
    fi
    sleep "$delay"
done
