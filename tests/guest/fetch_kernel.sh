#!/usr/bin/env bash
# Fetches the newest Debian kernel of a series into the cache.
#
#   tests/guest/fetch_kernel.sh [--debug] [--update] [--cached] NAME…        NAME: [arm64/]SERIES[-FLAVOUR]
#
#   6.1, 5.10, 7.2     the kernel for virtual machines ("cloud") of x86-64: the smallest
#   arm64/6.12         the same of arm64
#   6.1-generic        the kernel for all machines;  6.1-rt  with PREEMPT_RT;  arm64/6.12-16k  with pages of 16 KB
#
# One line per name on stdout, tab-separated, in the order asked:
#   NAME  RELEASE  /path/vmlinuz  /path/vmlinux  ARCH  /path/modules
# vmlinux, the debug file, is "-" when it is not there: it is ten times the rest, and fetched with --debug only. ARCH is
# Debian's word: amd64 or arm64. modules has a few small modules, not compressed. Progress and errors go to stderr.
# What is in the cache is answered from there in milliseconds, without the network, even when the archive has a newer
# one; --update asks the archive. --cached never uses the network: exit status 3 when a kernel is not there.
#
# Cache: ${GUESTSCOPE_CACHE:-~/.cache/guestscope}/kernels/RELEASE/{vmlinuz,config,modules,vmlinux,complete}, and a link
# per name that is made last, so an interrupted fetch is never taken for a whole one. 20 MB per kernel, or about 500.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

say() { printf 'fetch_kernel: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# shellcheck source=tests/lib/archive.sh
source "$here/../lib/archive.sh"
kernels=$cache/kernels

# Where to look, in this order; the first that has the series is taken. A suite that the mirror no longer has is passed over.
readonly suites=(bookworm-security bookworm bookworm-backports trixie-security trixie trixie-backports
  bullseye-security bullseye forky sid experimental)
# Small, nothing else needs them, and they have BTF of their own where the kernel has BTF for modules.
readonly modules=(dummy veth tcp_bbr tcp_dctcp)

parse() {  # NAME → sets arch, series, flavour; fails when it is none
  [[ $1 =~ ^(arm64/|amd64/)?([0-9]+\.[0-9]+)(-(generic|rt|16k|cloud))?$ ]] || return 1
  arch=${BASH_REMATCH[1]%/} series=${BASH_REMATCH[2]} flavour=${BASH_REMATCH[4]:-cloud}
  arch=${arch:-amd64}
}

print_cached() {  # NAME DEBUG → its line, or fails
  local dir=$kernels/$1 release vmlinux=-
  [[ -f $dir/complete && -s $dir/vmlinuz && -d $dir/modules ]] || return 1
  release=$(<"$dir/complete")
  dir=$kernels/$release
  [[ -s $dir/vmlinux ]] && vmlinux=$dir/vmlinux
  [[ -z $2 || $vmlinux != - ]] || return 1
  printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$1" "$release" "$dir/vmlinuz" "$vmlinux" "$arch" "$dir/modules"
}

package_suffix() {  # → the end of the packages' names
  case $flavour in
    generic) printf '%s' "$arch" ;;
    16k) printf '%s-16k' "$arch" ;;
    *) printf '%s-%s' "$flavour" "$arch" ;;
  esac
}

# The newest release of the series for which the suite has both the image and its debug file in the same version.
# Image packages outlive their debug files in the index, so the newest image alone is not enough.
newest_release() {  # SUITE → RELEASE VERSION
  local suite=$1 release version debug suffix
  suffix=$(package_suffix)
  while read -r release; do
    version=$(archive_candidate "$suite" "$arch" "linux-image-$release") || continue
    debug=$(archive_candidate "$suite" "$arch" "linux-image-$release-dbg") || continue
    if [[ $version == "$debug" ]]; then
      printf '%s %s\n' "$release" "$version"
      return 0
    fi
  done < <(archive "$suite" "$arch" apt-cache --names-only search \
    "^linux-image-${series//./\\.}([.~+][0-9a-z.~+]*)?(-[0-9][0-9a-z.~+]*)?-$suffix\$" |
    cut -d' ' -f1 | sed 's/^linux-image-//' | sort -rV)
  return 1
}

unpack() {  # DEB DIRECTORY PATTERN…: some files out of a package; the debug package's modules alone would be gigabytes
  local deb=$1 into=$2
  shift 2
  # tar's status also says that a pattern matched nothing: what is needed is checked by who needs it.
  dpkg-deb --fsys-tarfile "$deb" 2>/dev/null | tar -x -C "$into" --wildcards --no-anchored "$@" 2>/dev/null || true
}

take() {  # TARGET FILE…: moves the first that is there
  local target=$1 file
  shift
  for file in "$@"; do
    [[ -s $file && ! -L $file ]] || continue
    mv "$file" "$target"
    return 0
  done
  die "the package has no ${target##*/}"
}

fetch_image() {  # SUITE RELEASE VERSION
  local suite=$1 release=$2 version=$3 part name work=$kernels/.partial-$2 debs=() file
  rm -rf "$work"
  mkdir -p "$work/root" "$work/modules"
  # From 7.x on the image's package only names three others.
  for part in binary modules base image; do
    name=linux-$part-$release
    [[ $part == image && ${#debs[@]} -gt 0 ]] && continue
    [[ $(archive_candidate "$suite" "$arch" "$name") == "$version" ]] || continue
    file=$(archive_download "$suite" "$arch" "$name" "$version") || return 1
    debs+=("$file")
  done
  say "unpacking $release"
  for file in "${debs[@]}"; do
    unpack "$file" "$work/root" 'vmlinuz*' "boot/config-$release" "modules/$release/config" \
      "${modules[@]/%/.ko}" "${modules[@]/%/.ko.xz}" "${modules[@]/%/.ko.zst}"
  done
  take "$work/vmlinuz" "$work/root/boot/vmlinuz-$release" "$work"/root/{usr/,}"lib/modules/$release/vmlinuz"
  take "$work/config" "$work/root/boot/config-$release" "$work"/root/{usr/,}"lib/modules/$release/config"
  find "$work/root" -name '*.ko*' -type f -exec mv -t "$work/modules" {} +
  find "$work/modules" -name '*.xz' -exec xz -d {} +
  find "$work/modules" -name '*.zst' -exec zstd -q -d --rm {} +
  rm -rf "$work/root"
  printf '%s\n' "$release" >"$work/complete"
  sync -f "$work"
  if [[ -f $kernels/$release/complete ]]; then  # made when there were no modules here; it may be in use
    mv -T "$work/modules" "$kernels/$release/modules"
    rm -rf "$work"
  else
    rm -rf "${kernels:?}/$release"
    mv "$work" "$kernels/$release"
  fi
  rm -f "${debs[@]}"
}

fetch_debug() {  # SUITE RELEASE VERSION
  local work=$kernels/.partial-debug-$2 debug
  debug=$(archive_download "$1" "$arch" "linux-image-$2-dbg" "$3") || return 1
  say "unpacking the debug file of $2"
  rm -rf "$work"
  mkdir -p "$work"
  unpack "$debug" "$work" --occurrence=1 "boot/vmlinux-$2"
  [[ -n $(find "$work" -name 'vmlinux*' -type f) ]] || unpack "$debug" "$work" --occurrence=1 "modules/$2/vmlinux"
  take "$work/vmlinux" "$(find "$work" -name 'vmlinux*' -type f | head -n1)"
  sync -f "$work"
  mv "$work/vmlinux" "$kernels/$2/vmlinux"
  rm -rf "$work" "$debug"
}

fetch_from() {  # SUITE DEBUG UPDATE → RELEASE, or fails
  local suite=$1 found release version
  if [[ -n $3 || ! -f $cache/apt/$arch/$suite/updated ]]; then
    archive_update "$suite" "$arch" || { say "no list of $suite: $(tail -n1 "$cache/apt/$arch/$suite/log")"; return 1; }
  fi
  found=$(newest_release "$suite") || return 1
  read -r release version <<<"$found"
  [[ -f $kernels/$release/complete && -d $kernels/$release/modules ]] || fetch_image "$suite" "$release" "$version" || return 1
  [[ -z $2 || -s $kernels/$release/vmlinux ]] || fetch_debug "$suite" "$release" "$version" || return 1
  printf '%s\n' "$release"
}

fetch() {  # NAME DEBUG UPDATE
  local suite release update
  # Lists that are old name packages which are gone: with fresh ones it may go better.
  for update in "$3" 1; do
    for suite in "${suites[@]}"; do
      # An old suite's list may name what the mirror no longer has: then the next one's kernel will do.
      release=$(fetch_from "$suite" "$2" "$update") || continue
      mkdir -p "$(dirname "$kernels/$1")"
      # Relative, and its number of steps up depends on the name: arm64/6.1.
      ln -sfnr "$kernels/$release" "$kernels/$1"
      return 0
    done
    [[ -z $update ]] || break
  done
  die "no suite has a kernel $1 with a debug file (looked in ${suites[*]})"
}

main() {
  local update='' cached='' debug='' names=() name arch series flavour
  while (($#)); do
    case $1 in
      --update) update=1 ;;
      --cached) cached=1 ;;
      --debug) debug=1 ;;
      -h | --help) sed -n '2,20s/^# \{0,1\}//p' "$0"; return 0 ;;
      -*) say "unknown option $1 (try --help)"; return 2 ;;
      *) parse "$1" || { say "'$1' names no kernel; examples: 6.1 arm64/6.12 6.1-rt"; return 2; }
        names+=("$1") ;;
    esac
    shift
  done
  ((${#names[@]})) || { say "which kernel? for example: $0 6.1"; return 2; }
  for name in "${names[@]}"; do
    parse "$name"
    if [[ -z $update ]] && print_cached "$name" "$debug"; then continue; fi
    if [[ -n $cached ]]; then
      say "kernel $name is not in $kernels${debug:+ with its debug file}"
      return 3
    fi
    command -v apt-cache >/dev/null || die "no apt here: this script fetches Debian's kernels with Debian's tools"
    mkdir -p "$kernels"
    exec {lock}>"$cache/fetch.lock"
    flock -n "$lock" || { say "another fetch is running; waiting for it"; flock "$lock"; }
    # What we waited for may be what we wanted.
    if [[ -n $update ]] || ! print_cached "$name" "$debug" >/dev/null; then fetch "$name" "$debug" "$update"; fi
    exec {lock}>&-
    print_cached "$name" "$debug" || die "$kernels/$name is incomplete; remove it and try again"
  done
}

main "$@"
