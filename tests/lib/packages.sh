#!/usr/bin/env bash
# The Debian packages this project needs, in one list, and the one way to install them.
#
#   tests/lib/packages.sh [--list] [--check] [GROUP…]     groups: build, guest, tests (the default), gdb, crash, drgn
#
# Nothing happens (no network, milliseconds) when all are there. Otherwise apt-get installs what is missing,
# through sudo when not root; the package lists are updated first, because a new machine has none.
# --list prints the names; --check installs nothing and fails, naming what is missing.
set -euo pipefail

readonly -A packages=(
  # The daemon and its unit tests.
  [build]="g++ cmake ninja-build pkg-config libelf-dev libdw-dev libarchive-dev nlohmann-json3-dev libcpp-httplib-dev doctest-dev
           libpugixml-dev libcli11-dev libspdlog-dev libfmt-dev dwz"
  # The small guests, of x86-64 and arm64: their kernels' wrapping (xz, zstd), programs, initramfs, and the emulators.
  # Clang 19, not the default 14: only it emits 64-bit enumerators (BTF_KIND_ENUM64), which map values in the field have.
  [guest]="qemu-system-x86 qemu-system-arm bpftool clang-19 libbpf-dev libelf-dev zlib1g-dev libc6-dev gcc
           gcc-aarch64-linux-gnu libc6-dev-arm64-cross busybox-static cpio xz-utils zstd tar debian-archive-keyring"
  # What the tests and the example scripts call.
  [tests]="python3 curl jq binutils git"
  # What tests/bench/run.sh compares with; nothing else needs them. A group each: one that is not to be had is no reason to lack others.
  [gdb]="gdb"
  [crash]="crash"
  [drgn]="python3-drgn"
)

say() { printf 'packages: %s\n' "$*" >&2; }

main() {
  local mode=install groups=() wanted=() missing=() name group
  while (($#)); do
    case $1 in
      --list) mode=list ;;
      --check) mode=check ;;
      -h | --help) sed -n '2,9s/^# \{0,1\}//p' "$0"; return 0 ;;
      -*) say "unknown option $1 (try --help)"; return 2 ;;
      *) groups+=("$1") ;;
    esac
    shift
  done
  ((${#groups[@]})) || groups=(build guest tests)
  for group in "${groups[@]}"; do
    [[ -n ${packages[$group]:-} ]] || { say "unknown group '$group': one of ${!packages[*]}"; return 2; }
    # shellcheck disable=SC2206 # the list is split on purpose
    wanted+=(${packages[$group]})
  done
  mapfile -t wanted < <(printf '%s\n' "${wanted[@]}" | sort -u)
  if [[ $mode == list ]]; then
    printf '%s\n' "${wanted[@]}"
    return 0
  fi

  command -v dpkg-query >/dev/null || { say "this is not a Debian system; install the like of: ${wanted[*]}"; return 1; }
  local -A installed=()
  # One query for all: a name that dpkg has never heard of only makes its exit status non-zero.
  while read -r name; do installed[$name]=1; done < <(
    dpkg-query -W -f='${db:Status-Status} ${Package}\n' "${wanted[@]}" 2>/dev/null | sed -n 's/^installed //p')
  for name in "${wanted[@]}"; do
    [[ -n ${installed[$name]:-} ]] || missing+=("$name")
  done
  ((${#missing[@]})) || return 0
  if [[ $mode == check ]]; then
    say "missing: ${missing[*]}"
    return 1
  fi

  local as_root=()
  if ((EUID)); then
    command -v sudo >/dev/null || { say "missing: ${missing[*]}; become root, or install sudo"; return 1; }
    as_root=(sudo)
  fi
  as_root+=(env DEBIAN_FRONTEND=noninteractive)
  say "installing ${#missing[@]} packages: ${missing[*]}"
  "${as_root[@]}" apt-get -q update </dev/null >&2 || { say "apt-get update failed; see above"; return 1; }
  "${as_root[@]}" apt-get -q -y --no-install-recommends -o Dpkg::Use-Pty=0 install "${missing[@]}" </dev/null >&2 ||
    { say "apt-get install failed; see above"; return 1; }
}

main "$@"
