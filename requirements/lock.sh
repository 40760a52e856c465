#!/bin/sh
# Writes the locks: versions and hashes for every platform, no registry address.
#   image.txt  what the container image holds    run.txt  image + the dev extra    test.txt  run + the test group
#   bench.txt  run + the bench group
set -eu
cd "$(dirname "$0")/.."
lock() {
    output=$1
    shift
    uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --custom-compile-command "make lock" pyproject.toml "$@" --output-file "$output"
}
lock requirements/image.txt --group build
lock requirements/run.txt --group build --extra dev -c requirements/image.txt
lock requirements/test.txt --group build --extra dev --group test -c requirements/run.txt
lock requirements/bench.txt --group build --extra dev --group bench -c requirements/run.txt
