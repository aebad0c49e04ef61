#!/usr/bin/env bash
# Ends with a random exit code.
exit $((RANDOM % 2))
