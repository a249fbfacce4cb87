#!/usr/bin/env bash
# Measures what looking at a guest costs, on a real one, and what it costs with other tools. Not part of the tests.
#
#   tests/bench/run.sh [PART…] [KERNEL]      KERNEL: as fetch_kernel.sh names it; default: 6.1. No PART: all of them.
#
#   --start-up  how long until everything can be read, with vmlinux, vmlinuz and no file; the first answer; idle
#   --pauses    what the stub can do at best, and what guestscope's answers hold the guest for
#   --rivals    the same asked of gdb, crash, drgn and bpftool
#   --load      many clients at once
#   --maps      maps of 100,000 and of a million elements
#   --boot      a guest that is watched from its first instruction against the same one alone
#
# Prints tables; all figures are in build/release/bench.json. A quiet host is part of the measurement. All parts: about 25 minutes.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
options=() kernel=6.1
for word in "$@"; do
  case $word in
    --start-up | --pauses | --rivals | --load | --maps | --boot) options+=("$word") ;;
    -h | --help) sed -n '2,13s/^# \{0,1\}//p' "$0"; exit 0 ;;
    -*) echo "run.sh: unknown option $word (try --help)" >&2; exit 2 ;;
    *) kernel=$word ;;
  esac
done
cd "$root"
tests/lib/packages.sh
# A rival that cannot be installed is a row that says so.
if [[ ${#options[@]} == 0 || " ${options[*]} " == *" --rivals "* ]]; then
  for rival in gdb crash drgn; do
    tests/lib/packages.sh "$rival" || echo "run.sh: $rival cannot be installed" >&2
  done
fi
cmake --preset release -DBUILD_TESTING=ON >/dev/null
cmake --build --preset release --target guestscope bench_snapshots bench_maps
tests/guest/fetch_kernel.sh --debug "$kernel" >/dev/null
exec python3 -B tests/bench/run.py "${options[@]}" build/release "$kernel"
