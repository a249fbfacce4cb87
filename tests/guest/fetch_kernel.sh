#!/usr/bin/env bash
# Fetches the newest Debian cloud kernel of a series, and its debug file, into the cache.
#
#   tests/guest/fetch_kernel.sh [--update] [--cached] SERIES…        SERIES: 6.1, 6.12, …
#
# One line per series on stdout, tab-separated, in the order asked:
#   SERIES  RELEASE  /path/vmlinuz  /path/vmlinux
# Progress and errors go to stderr. A series that is in the cache is answered from there in milliseconds, without
# the network, even when the archive has a newer one; --update asks the archive. --cached never uses the network:
# exit status 3 when a series is not there.
#
# Cache: ${GUESTSCOPE_CACHE:-~/.cache/guestscope}/kernels/RELEASE/{vmlinuz,vmlinux,complete}, and a link per series
# that is made last, so an interrupted fetch is never taken for a whole one. About 620 MB per kernel.
set -euo pipefail

cache=${GUESTSCOPE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/guestscope}
kernels=$cache/kernels
downloads=$cache/downloads
arch=amd64

say() { printf 'fetch_kernel: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

print_cached() {  # SERIES → its line, or fails
  local dir=$kernels/$1 release
  [[ -f $dir/complete && -s $dir/vmlinuz && -s $dir/vmlinux ]] || return 1
  release=$(<"$dir/complete")
  printf '%s\t%s\t%s\t%s\n' "$1" "$release" "$kernels/$release/vmlinuz" "$kernels/$release/vmlinux"
}

# The newest release of a series for which the archive has both the image and its debug file in the same version.
# Image packages outlive their debug files in the index, so the newest image alone is not enough.
newest_release() {  # SERIES → RELEASE VERSION
  local series=$1 release version debug
  while read -r release; do
    version=$(candidate "linux-image-$release") || continue
    debug=$(candidate "linux-image-$release-dbg") || continue
    if [[ $version == "$debug" ]]; then
      printf '%s %s\n' "$release" "$version"
      return 0
    fi
  done < <(apt-cache --names-only search "^linux-image-${series//./\\.}\\..*-cloud-$arch\$" | cut -d' ' -f1 |
    sed 's/^linux-image-//' | sort -rV)
  return 1
}

candidate() {  # PACKAGE → the version that apt would install, or fails
  apt-cache policy "$1" 2>/dev/null | sed -n 's/^ *Candidate: //p' | grep -v '(none)'
}

update_lists() {
  say "updating the package lists"
  if ((EUID)); then
    command -v sudo >/dev/null || die "the package lists are empty or old: run 'apt-get update' as root"
    sudo apt-get -q update </dev/null >&2
  else
    apt-get -q update </dev/null >&2
  fi || die "apt-get update failed; see above"
}

# Prints how much has arrived every few seconds: apt-get shows its own progress only on a terminal.
show_progress() {  # FILE TOTAL NAME
  local have
  while sleep 3 && kill -0 $$ 2>/dev/null; do  # it must not outlive the script, whose lock it holds
    have=$(stat -c %s "$1" 2>/dev/null || echo 0)
    say "$3: $((have >> 20)) of $(($2 >> 20)) MB"
  done
}

verified() {  # FILE SHA256: apt checks what it downloads; this also covers a file left by an earlier, interrupted run
  [[ -s $1 ]] && printf '%s  %s\n' "$2" "$1" | sha256sum --check --status && dpkg-deb --info "$1" >/dev/null 2>&1
}

download() {  # PACKAGE VERSION → path of the verified .deb
  local package=$1 version=$2 record size sha file progress status=0
  record=$(apt-cache show "$package=$version") || die "the archive has no $package $version"
  size=$(sed -n 's/^Size: //p' <<<"$record" | head -n1)
  sha=$(sed -n 's/^SHA256: //p' <<<"$record" | head -n1)
  file=$downloads/${package}_${version//:/%3a}_$arch.deb
  if ! verified "$file" "$sha"; then
    rm -f "$file"
    say "downloading $package $version ($((size >> 20)) MB)"
    show_progress "$file" "$size" "$package" &
    progress=$!
    # The note about the unsandboxed download, when root, is of no use to anybody.
    (cd "$downloads" && apt-get -q -o APT::Sandbox::User=root download "$package=$version" </dev/null >&2) || status=$?
    kill "$progress" 2>/dev/null || true
    wait "$progress" 2>/dev/null || true
    ((status == 0)) || die "download of $package failed; is the network up, are the package lists fresh (apt-get update)?"
    verified "$file" "$sha" || die "$file is damaged"
  fi
  printf '%s\n' "$file"
}

unpack() {  # DEB MEMBER TARGET: one file out of a package; the debug package's modules alone would be gigabytes
  # tar stops at the first match, so dpkg-deb may end on a broken pipe: tar's status is the one that counts.
  (set +o pipefail; dpkg-deb --fsys-tarfile "$1" 2>/dev/null | tar -xO --occurrence=1 "./$2" >"$3") ||
    die "$1 has no $2"
  [[ -s $3 ]] || die "$1: $2 is empty"
}

fetch() {  # SERIES
  local series=$1 found release version image debug work
  found=$(newest_release "$series") || { update_lists; found=$(newest_release "$series"); } ||
    die "the machine's apt sources have no cloud kernel $series with a debug file"
  read -r release version <<<"$found"
  if [[ ! -f $kernels/$release/complete ]]; then
    image=$(download "linux-image-$release" "$version")
    debug=$(download "linux-image-$release-dbg" "$version")
    say "unpacking $release"
    work=$kernels/.partial-$release
    rm -rf "$work"
    mkdir -p "$work"
    unpack "$image" "boot/vmlinuz-$release" "$work/vmlinuz"
    unpack "$image" "boot/config-$release" "$work/config"
    unpack "$debug" "usr/lib/debug/boot/vmlinux-$release" "$work/vmlinux"
    printf '%s\n' "$release" >"$work/complete"
    sync -f "$work"
    rm -rf "${kernels:?}/$release"
    mv "$work" "$kernels/$release"
    rm -f "$image" "$debug"
  fi
  ln -sfn "$release" "$kernels/$series"
}

main() {
  local update='' cached='' series_list=() series
  while (($#)); do
    case $1 in
      --update) update=1 ;;
      --cached) cached=1 ;;
      -h | --help) sed -n '2,14s/^# \{0,1\}//p' "$0"; return 0 ;;
      -*) say "unknown option $1 (try --help)"; return 2 ;;
      *[!0-9.]* | '') say "'$1' is no kernel series; examples: 6.1 6.12"; return 2 ;;
      *) series_list+=("$1") ;;
    esac
    shift
  done
  ((${#series_list[@]})) || { say "which series? for example: $0 6.1"; return 2; }
  for series in "${series_list[@]}"; do
    if [[ -z $update ]] && print_cached "$series"; then continue; fi
    if [[ -n $cached ]]; then
      say "kernel $series is not in $kernels"
      return 3
    fi
    command -v apt-cache >/dev/null || die "no apt here: this script fetches Debian's kernels with Debian's tools"
    mkdir -p "$kernels" "$downloads"
    exec {lock}>"$cache/fetch.lock"
    flock -n "$lock" || { say "another fetch is running; waiting for it"; flock "$lock"; }
    # What we waited for may be what we wanted.
    if [[ -n $update ]] || ! print_cached "$series" >/dev/null; then fetch "$series"; fi
    exec {lock}>&-
    print_cached "$series" || die "$kernels/$series is incomplete; remove it and try again"
  done
}

main "$@"
