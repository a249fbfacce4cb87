#!/usr/bin/env bash
# Measures what looking at a guest costs, on a real one: tests/bench/run.sh [KERNEL SERIES]. Not part of the tests.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$root"
tests/lib/packages.sh
cmake --preset release >/dev/null
cmake --build --preset release --target guestscope bench_snapshots
tests/guest/fetch_kernel.sh --debug "${1:-6.1}" >/dev/null
exec python3 -B tests/bench/run.py build/release "${1:-6.1}"
