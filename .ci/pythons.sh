#!/usr/bin/env bash
# `make test` on every Python from 3.11 to 3.13 that is on this machine, each in a clone and a virtual environment of its own.
# Says which were not there; fails when a test does, or when none was found.
set -uo pipefail
cd "$(dirname "$0")/.."
tried=0 failed=0
for version in 3.11 3.12 3.13; do
  if ! "python$version" -c 'import sys' 2>/dev/null; then
    echo "Python $version: not on this machine, not tested"
    continue
  fi
  tried=$((tried + 1))
  folder=$(mktemp -d)
  git clone --quiet . "$folder/clone"
  if make -C "$folder/clone" test PYTHON="python$version"; then
    echo "Python $version: all tests passed"
  else
    echo "Python $version: FAILED"
    failed=$((failed + 1))
  fi
  rm -rf "$folder"
done
[ "$tried" -gt 0 ] && [ "$failed" = 0 ]
