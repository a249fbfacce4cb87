#!/usr/bin/env bash
# Builds a guest's initramfs: busybox, bpftool, and our program with its BPF objects. One image for all kernels of an
# architecture.
#
#   tests/guest/build_image.sh [--arch amd64|arm64] [--output FILE]
#
# Prints the image's path on stdout (default: ${GUESTSCOPE_CACHE:-~/.cache/guestscope}/images/HASH.cpio, where HASH covers
# everything that goes in, so an image is built once and a second run takes milliseconds). For another architecture than
# this machine's, programs and libraries come from Debian's packages of that architecture, kept in the cache.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PATH=$PATH:/usr/sbin:/sbin

say() { printf 'build_image: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# shellcheck source=tests/lib/archive.sh
source "$here/../lib/archive.sh"
readonly foreign_packages=(busybox-static bpftool libbpf-dev libelf-dev zlib1g-dev)

need() {
  local tool
  for tool in "$@"; do
    command -v "$tool" >/dev/null || die "$tool is missing; run tests/lib/packages.sh guest"
  done
}

# Debian's packages of the other architecture, with what they depend on, unpacked on top of one another.
make_sysroot() {  # DIRECTORY
  local suite deb work=$1.$$
  # shellcheck disable=SC1091 # the machine's
  suite=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:?}")
  say "fetching $arch packages: ${foreign_packages[*]}"
  mkdir -p "$work.debs/partial" "$work"
  # For the private lists nothing is installed, so this is all they need.
  archive "$suite" "$arch" apt-get -q -y --no-install-recommends --download-only -o "Dir::Cache::archives=$work.debs" \
    install "${foreign_packages[@]}" </dev/null >&2 || die "the packages cannot be had; is the network up?"
  for deb in "$work.debs"/*.deb; do
    dpkg-deb -x "$deb" "$work"
  done
  rm -rf "$work.debs"
  mv -T "$work" "$1"
}

choose_tools() {  # sets where programs and libraries come from, and what builds for arch
  local sysroot
  clang=$(command -v clang-19 || command -v clang || true)
  need cpio "${clang:-clang-19}" bpftool busybox
  if [[ $arch == "$(dpkg --print-architecture)" ]]; then
    triplet=$(gcc -print-multiarch) compiler=gcc tools='' from='' compile_options=()
    need gcc strip readelf
  else
    triplet=aarch64-linux-gnu compiler=$triplet-gcc tools=$triplet-
    need "$compiler" "$tools"{strip,readelf}
    sysroot=$cache/sysroots/$arch-$(printf '%s\n' "${foreign_packages[@]}" | sha256sum | cut -c1-8)
    [[ -d $sysroot ]] || make_sysroot "$sysroot"
    from=$sysroot compile_options=(-idirafter "$sysroot/usr/include" -L "$sysroot/usr/lib/$triplet")
  fi
}

inputs_hash() {
  {
    echo "$arch"
    cat "${BASH_SOURCE[0]}" "$here"/programs/* "$here"/rootfs/init "$here"/rootfs/bin/*
    stat -Lc '%n %s %Y' "$(command -v bpftool)" "$(command -v busybox)" "$clang" "$from"/usr/lib/"$triplet"/libbpf.a
  } | sha256sum | cut -c1-16
}

build_program() {  # OUTPUT
  local programs=$here/programs name include
  include=/usr/include/$(gcc -print-multiarch)
  for name in maps progs typed special tables buffers stacks network storage links replace ops large changing sched_ext sched_ext_plain; do
    "$clang" -O2 -g -target bpf -mcpu=v3 -Wall -Wextra -idirafter "$include" -c "$programs/$name.bpf.c" -o "$work/$name.bpf.o"
    bpftool gen skeleton "$work/$name.bpf.o" name "${name}_bpf" >"$work/$name.skel.h"
  done
  "$compiler" -O2 -Wall -Wextra -static -Wl,--build-id -I"$work" -I"$programs" "$programs"/{guest,support,typed,special,tables,buffers,stacks,network,storage,arena,links,code,large,changing,sched_ext}.c \
    -o "$1" "${compile_options[@]}" -lbpf -lelf -lz
  "$compiler" -O2 -Wall -Wextra -static "$programs/queued.c" -o "$(dirname "$1")/queued"
  "${tools}strip" "$1" "$(dirname "$1")/queued"
}

find_file() {  # NAME… → the first of these paths that is there, seen from the root of its system
  local place
  for place in "$@"; do
    [[ -e $from$place ]] || continue
    printf '%s\n' "$place"
    return 0
  done
  die "none of these is there: $*"
}

copy_with_libraries() {  # FILE ROOT: a program or library, its loader and libraries, each to where it is looked for
  local name path
  [[ ! -e $2$1 ]] || return 0
  mkdir -p "$2$(dirname "$1")"
  cp -L "$from$1" "$2$1"
  while read -r name; do
    path=$(find_file "$name" {,/usr}/lib/"$triplet/$name")
    copy_with_libraries "$path" "$2"
  done < <("${tools}readelf" -ld "$from$1" |
    sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p; s/.*program interpreter: \(.*\)\]/\1/p')
}

build_image() {  # OUTPUT
  local root=$work/root applet bpftool
  mkdir -p "$root"/{bin,dev,proc,sys,run,tmp,etc}
  cp -p "$here/rootfs/init" "$root/"
  cp -p "$here"/rootfs/bin/* "$from$(find_file /bin/busybox /usr/bin/busybox)" "$root/bin/"
  # Asked of the machine's own: the other architecture's cannot run here.
  for applet in $(busybox --list); do
    [[ -e $root/bin/$applet ]] || ln -s busybox "$root/bin/$applet"
  done
  bpftool=$(find_file /usr/sbin/bpftool /usr/bin/bpftool /sbin/bpftool)
  copy_with_libraries "$bpftool" "$root"
  ln -s "$bpftool" "$root/bin/bpftool"
  build_program "$root/bin/guest"
  # Not compressed: unpacking would cost an emulated guest more time than it saves anybody.
  (cd "$root" && find . -print0 | LC_ALL=C sort -z | cpio --null --create --quiet --format=newc --owner=0:0) >"$1" ||
    die "cpio failed; is $(dirname "$1") full?"
}

main() {
  local output='' arch clang triplet compiler tools from compile_options=()
  arch=$(dpkg --print-architecture)
  while (($#)); do
    case $1 in
      --output) output=${2:?--output needs a file}; shift ;;
      --arch) arch=${2:?--arch needs amd64 or arm64}; shift ;;
      -h | --help) sed -n '2,10s/^# \{0,1\}//p' "$0"; return 0 ;;
      *) say "unknown argument $1 (try --help)"; return 2 ;;
    esac
    shift
  done
  [[ $arch == amd64 || $arch == arm64 ]] || { say "no image for '$arch': amd64 or arm64"; return 2; }
  choose_tools
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
