#!/usr/bin/env python3
"""Prints the Fibonacci numbers between two bounds: START END."""

import sys


def fibonacci(start, end):
    a, b = 0, 1
    while a <= end:
        if a >= start:
            yield a
        a, b = b, a + b


if __name__ == "__main__":
    bounds = [int(argument.split("=")[-1]) for argument in sys.argv[1:3]]
    start, end = (bounds + [1, 100][len(bounds):])[:2]
    print(" ".join(str(number) for number in fibonacci(start, end)))
