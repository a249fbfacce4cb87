#!/usr/bin/env bash
# Measures what looking at a guest costs, on a real one. Not part of the tests.
#
#   tests/bench/run.sh [--start-up | --maps] [KERNEL]      KERNEL: as fetch_kernel.sh names it; default: 6.1
#
#   --start-up  only how long it takes until everything can be read: with vmlinux, with vmlinuz, with no file
#   --maps      only maps of 100,000 and of a million elements
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
options=() kernel=6.1
for word in "$@"; do
  case $word in
    --start-up | --maps) options+=("$word") ;;
    -h | --help) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;;
    -*) echo "run.sh: unknown option $word (try --help)" >&2; exit 2 ;;
    *) kernel=$word ;;
  esac
done
cd "$root"
tests/lib/packages.sh
cmake --preset release -DBUILD_TESTING=ON >/dev/null
cmake --build --preset release --target guestscope bench_snapshots bench_maps
tests/guest/fetch_kernel.sh --debug "$kernel" >/dev/null
exec python3 -B tests/bench/run.py "${options[@]}" build/release "$kernel"
