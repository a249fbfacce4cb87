#!/usr/bin/env bash
# Unpacks crash of a newer Debian release into the cache, with the libraries that it needs, and installs nothing.
#
#   tests/guest/fetch_crash.sh [--cached]
#
# Prints the path of the program. The release before cannot list the tasks of 6.1's last updates: struct pid has lost
# the array's one element there. --cached never uses the network: exit status 3 when it is not there.
# Cache: ${GUESTSCOPE_CACHE:-~/.cache/guestscope}/crash/SUITE. About 12 MB to download.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly suite=trixie

say() { printf 'fetch_crash: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# shellcheck source=tests/lib/archive.sh
source "$here/../lib/archive.sh"

# A library of the machine's own never comes in: the loader looks only where it is told.
write_wrapper() {  # DIRECTORY, which has root/
  local libc loader
  libc=$(cd "$1/root" && find . -path '*/lib/*' -name libc.so.6 -printf '%P\n' | head -n1)
  libc=${libc%/*}
  loader=$(cd "$1/root" && find "./$libc" -maxdepth 1 -name 'ld-linux*.so.*' -printf '%f\n' | head -n1)
  [[ -n $libc && -n $loader ]] || die "the suite's C library has no loader"
  cat >"$1/crash" <<WRAPPER
#!/bin/sh
root=\$(dirname "\$(readlink -f "\$0")")/root
exec "\$root/$libc/$loader" --library-path "\$root/$libc" "\$root/usr/bin/crash" "\$@"
WRAPPER
  chmod +x "$1/crash"
  "$1/crash" --version >/dev/null || die "crash of $suite does not run here"
}

fetch() {  # DIRECTORY
  local deb work=$1.$$
  say "fetching crash of $suite"
  mkdir -p "$work.debs/partial" "$work/root"
  archive "$suite" "$(dpkg --print-architecture)" apt-get -q -y --no-install-recommends --download-only \
    -o "Dir::Cache::archives=$work.debs" install crash </dev/null >&2 || die "the packages cannot be had; is the network up?"
  for deb in "$work.debs"/*.deb; do
    dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$work/root" --keep-directory-symlink --exclude=./usr/share
  done
  rm -rf "$work.debs"
  write_wrapper "$work"
  mv -T "$work" "$1"
}

main() {
  local directory=$cache/crash/$suite
  if [[ ! -x $directory/crash ]]; then
    [[ ${1:-} != --cached ]] || return 3
    mkdir -p "$cache/crash"
    fetch "$directory"
  fi
  printf '%s\n' "$directory/crash"
}

main "$@"
