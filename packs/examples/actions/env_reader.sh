#!/usr/bin/env bash
# Prints the environment that the action was given.
env | grep -E '^(ST2_|github_)' | grep -v TOKEN | sort
