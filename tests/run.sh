#!/usr/bin/env bash
# Runs the tests: installs what is missing, builds, fetches the kernels, builds the guest, runs everything.
#
#   tests/run.sh [--unit | --matrix] [--preset NAME] [CTEST OPTIONS…]
#
#   --unit         only the tests that need no guest
#   --matrix       instead of those of CTest: all kernels and machines of tests/guest/matrix.py; an hour or more, and some GB.
#                  The results go to build/PRESET/matrix.json
#   --preset NAME  a configure preset; default: ci
#
# Ends with one line, "N passed, N failed" (and ", N skipped" when some were). Exit status 1 when any failed. With CI=true
# a skipped test is a failed one.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
preparing='' prepared=''  # a process group, and what it says
trap end_preparing EXIT

say() { printf '\n== %s\n' "$*"; }

counts() {  # JUNIT FILE → the line, and a non-zero status when tests failed or there were none
  python3 - "$1" <<'PYTHON'
import sys
import xml.etree.ElementTree

suite = xml.etree.ElementTree.parse(sys.argv[1]).getroot()
total, failed, skipped = (int(suite.get(name, 0)) for name in ("tests", "failures", "skipped"))
skipped += int(suite.get("disabled", 0))
print(f"{total - failed - skipped} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
sys.exit(1 if failed or not total else 0)
PYTHON
}

# A kernel that cannot be had is reported by the tests that want it.
fetch_kernels() {  # --all: those of the whole matrix
  local kernel debug
  while read -r kernel debug; do
    # shellcheck disable=SC2086 # an option, or nothing
    tests/guest/fetch_kernel.sh $debug "$kernel" || echo "no kernel $kernel"
  done < <(python3 -B tests/guest/matrix.py --kernels "$@")
}

# What the live tests need of others: kernels, QEMU, guests. Two architectures, of which one can be missing.
prepare_guests() {  # --all: for the whole matrix
  fetch_kernels "$@"
  tests/guest/fetch_qemu.sh trixie || echo "no newer QEMU"
  tests/guest/fetch_crash.sh || echo "no newer crash"
  tests/guest/build_image.sh --arch amd64
  tests/guest/build_image.sh --arch arm64 || echo "no guest of arm64"
}

end_preparing() {
  [[ -z $preparing ]] || kill -- "-$preparing" || true
  [[ -z $prepared ]] || rm -f "$prepared"
}

main() {
  local preset=ci unit='' matrix='' options=() build results vmlinux status=0
  while (($#)); do
    case $1 in
      --unit) unit=1 ;;
      --matrix) matrix=1 ;;
      --preset) preset=${2:?--preset needs a name}; shift ;;
      -h | --help) sed -n '2,12s/^# \{0,1\}//p' "$0"; return 0 ;;
      *) options+=("$1") ;;
    esac
    shift
  done
  cd "$root"
  if [[ -n $unit ]]; then
    tests/lib/packages.sh build tests
    options+=(--label-exclude guest)
  else
    tests/lib/packages.sh
  fi
  [[ ${CI:-} == true ]] && export GUESTSCOPE_NO_SKIP=${GUESTSCOPE_NO_SKIP:-1}

  # Mostly downloads: they arrive while the build has the processors.
  if [[ -z $unit ]]; then
    prepared=$(mktemp)
    set -m
    prepare_guests ${matrix:+--all} </dev/null >"$prepared" 2>&1 &
    set +m
    preparing=$!
  fi

  say "building (preset $preset)"
  cmake --preset "$preset" >/dev/null
  cmake --build --preset "$preset"
  build=$root/build/$preset

  if [[ -z $unit ]]; then
    say "kernels and guest"
    tail -n +1 --follow --pid="$preparing" "$prepared"
    wait "$preparing" || status=$?
    preparing=''
    ((status == 0)) || return "$status"
    # The comparison of all types of a real kernel with libbpf's reading of them.
    IFS=$'\t' read -r _ _ _ vmlinux _ < <(tests/guest/fetch_kernel.sh --cached --debug 6.1) || true
    [[ -z ${vmlinux:-} ]] || export GUESTSCOPE_TEST_VMLINUX=$vmlinux
  fi

  if [[ -n $matrix ]]; then
    say "matrix"
    export GUESTSCOPE_BINARY=$build/daemon/guestscope
    python3 -B tests/guest/matrix.py --run "$build/matrix.json" "${options[@]}"
    return
  fi

  say "tests"
  results=$build/results.xml
  rm -f "$results"
  # Two at a time: a test waits as long as it computes, and a guest that boots has one processor. See RUN_SERIAL.
  ctest --test-dir "$build" --parallel 2 --output-on-failure --no-tests=error --output-junit "$results" "${options[@]}" </dev/null || status=$?
  [[ -s $results ]] || { echo "ctest gave no results (exit status $status)"; return 1; }
  echo
  counts "$results" || status=1
  return "$((status != 0))"
}

main "$@"
