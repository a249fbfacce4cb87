#!/usr/bin/env bash
# Builds the guest's initramfs: busybox, bpftool, and our program with its BPF objects. One image for every kernel.
#
#   tests/guest/build_image.sh [--output FILE]
#
# Prints the image's path on stdout (default: ${GUESTSCOPE_CACHE:-~/.cache/guestscope}/images/HASH.cpio, where HASH covers
# everything that goes in, so an image is built once and a second run takes milliseconds).
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${GUESTSCOPE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/guestscope}
PATH=$PATH:/usr/sbin:/sbin

say() { printf 'build_image: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

need() {
  local tool
  for tool in "$@"; do
    command -v "$tool" >/dev/null || die "$tool is missing; run tests/lib/packages.sh guest"
  done
}

inputs_hash() {
  {
    cat "${BASH_SOURCE[0]}" "$here"/programs/* "$here"/rootfs/init "$here"/rootfs/bin/*
    stat -Lc '%n %s %Y' "$(command -v bpftool)" "$(command -v busybox)" "$(command -v "$clang")" /usr/lib/*/libbpf.a
  } | sha256sum | cut -c1-16
}

build_program() {  # OUTPUT
  local programs=$here/programs name include
  include=/usr/include/$(gcc -print-multiarch)
  for name in maps progs; do
    "$clang" -O2 -g -target bpf -mcpu=v3 -Wall -Wextra -idirafter "$include" -c "$programs/$name.bpf.c" -o "$work/$name.bpf.o"
    bpftool gen skeleton "$work/$name.bpf.o" name "${name}_bpf" >"$work/$name.skel.h"
  done
  gcc -O2 -Wall -Wextra -static -I"$work" -I"$programs" "$programs/guest.c" -o "$1" -lbpf -lelf -lz
  strip "$1"
}

copy_with_libraries() {  # PROGRAM ROOT: the binary into /bin, its libraries and loader to where it looks for them
  local library
  cp -L "$1" "$2/bin/"
  while read -r library; do
    mkdir -p "$2$(dirname "$library")"
    cp -L "$library" "$2$library"
  done < <(ldd "$1" | grep -o '/[^ ]*')
}

build_image() {  # OUTPUT
  local root=$work/root applet
  mkdir -p "$root"/{bin,dev,proc,sys,run,tmp,etc}
  cp -p "$here/rootfs/init" "$root/"
  cp -p "$here"/rootfs/bin/* "$(command -v busybox)" "$root/bin/"
  for applet in $(busybox --list); do
    [[ -e $root/bin/$applet ]] || ln -s busybox "$root/bin/$applet"
  done
  copy_with_libraries "$(command -v bpftool)" "$root"
  build_program "$root/bin/guest"
  # Not compressed: unpacking would cost an emulated guest more time than it saves anybody.
  (cd "$root" && find . -print0 | LC_ALL=C sort -z | cpio --null --create --quiet --format=newc --owner=0:0) >"$1" ||
    die "cpio failed; is $(dirname "$1") full?"
}

main() {
  local output=''
  while (($#)); do
    case $1 in
      --output) output=${2:?--output needs a file}; shift ;;
      -h | --help) sed -n '2,7s/^# \{0,1\}//p' "$0"; return 0 ;;
      *) say "unknown argument $1 (try --help)"; return 2 ;;
    esac
    shift
  done
  clang=$(command -v clang-19 || command -v clang || true)
  need busybox bpftool gcc cpio strip ldd "${clang:-clang-19}"
  output=${output:-$cache/images/$(inputs_hash).cpio}
  if [[ ! -s $output ]]; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    mkdir -p "$(dirname "$output")"
    say "building $output"
    build_image "$output.$$"
    mv "$output.$$" "$output"
  fi
  printf '%s\n' "$output"
}

main "$@"
