#!/usr/bin/env bash
# Prints random numbers and ends with a random exit code.
for _ in $(seq "${1:-1}"); do
    echo "$RANDOM"
done
exit $((RANDOM % 2))
