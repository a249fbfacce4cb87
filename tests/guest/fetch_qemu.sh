#!/usr/bin/env bash
# Unpacks the QEMU of another Debian release into the cache, with all that it needs, and installs nothing.
#
#   tests/guest/fetch_qemu.sh [--update] [--cached] [SUITE…]         SUITE: trixie (default), bookworm, …
#
# One line per suite on stdout, tab-separated, in the order asked:
#   SUITE  VERSION  /path
# with programs /path/qemu-system-x86_64 and /path/qemu-system-aarch64, which bring their own libraries, libc and
# firmware; for the live tests: GUESTSCOPE_QEMU=/path. Progress and errors go to stderr. A suite that is in the cache is
# answered from there without the network; --update asks the archive. --cached never uses the network: exit status 3
# when a suite is not there.
#
# Mirror and keys are those of the machine's own apt configuration. apt gets a state of its own, in which no package is
# installed, so that everything needed comes from the suite. Cache:
# ${GUESTSCOPE_CACHE:-~/.cache/guestscope}/qemu/VERSION, and a link per suite that is made last. About 58 MB to download,
# 210 MB unpacked, 10 to 20 s.
set -euo pipefail

cache=${GUESTSCOPE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/guestscope}
qemus=$cache/qemu
packages=(qemu-system-x86 qemu-system-arm)
programs=(qemu-system-x86_64 qemu-system-aarch64)

say() { printf 'fetch_qemu: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

print_cached() {  # SUITE → its line, or fails
  local dir=$qemus/$1 version
  [[ -f $dir/complete && -x $dir/${programs[0]} ]] || return 1
  version=$(<"$dir/complete")
  printf '%s\t%s\t%s\n' "$1" "$version" "$qemus/$version"
}

# The source of the machine's own Debian release, for another suite: its mirror, and its keys if it names some.
source_line() {  # SUITE → a line for sources.list
  local found uri entry key
  # Several lines: updates come from the same mirror.
  # shellcheck disable=SC2016 # apt expands these
  found=$(apt-get indextargets --format '$(REPO_URI) $(SOURCESENTRY)' \
    'Created-By: Packages' 'Origin: Debian' 'Label: Debian' 'Component: main') || true
  read -r uri entry <<<"$found" || die "the machine's apt sources name no mirror of Debian"
  [[ -n $uri ]] || die "the machine's apt sources name no mirror of Debian"
  # A path, or the keys themselves in a block; both forms of source file; without either, apt's trusted keys are used.
  key=$(sed -nE 's/^Signed-By:[[:space:]]*(\/[^[:space:]]+).*/\1/p; s/^deb .*signed-by=(\/[^],[:space:]]+).*/\1/p' \
    "${entry%:*}" 2>/dev/null | head -n1)
  printf 'deb [arch=%s%s] %s %s main\n' "$(dpkg --print-architecture)" "${key:+ signed-by=$key}" "$uri" "$1"
}

# apt's options come last on its command line, after the machine's configuration: mirror proxies and the like stay.
prepare_apt() {  # DIRECTORY SUITE: sets apt_options
  mkdir -p "$1"/{lists/partial,archives/partial,none}
  : >"$1/status"
  source_line "$2" >"$1/sources.list"
  apt_options=(-q -o "Dir::Etc::sourcelist=$1/sources.list" -o "Dir::Etc::sourceparts=$1/none"
    -o "Dir::Etc::preferences=$1/none/preferences" -o "Dir::Etc::preferencesparts=$1/none"
    -o "Dir::State=$1" -o "Dir::State::lists=$1/lists" -o "Dir::State::status=$1/status"
    -o "Dir::State::extended_states=$1/extended_states"
    -o "Dir::Cache=$1" -o "Dir::Cache::archives=$1/archives" -o APT::Sandbox::User=root
    -o APT::Default-Release= -o APT::Install-Recommends=false)
}

unpack() {  # ARCHIVES ROOT
  local deb
  mkdir "$2"
  # Where /lib and /lib64 are links, that is the doing of a package which nothing depends on.
  for deb in "$1"/*.deb; do dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$2" --keep-directory-symlink \
    --exclude=./usr/share/doc --exclude=./usr/share/man --exclude=./usr/share/locale; done
}

# A library of the machine's own never comes in: the loader looks only where it is told. QEMU takes the loader's place
# for its own, and a directory qemu-bundle beside it for the root of all its modules and firmware (util/cutils.c,
# get_relocated_path); without that it would load modules of the machine's QEMU, and abort.
write_wrappers() {  # DIRECTORY, which has root/
  local program libc loader libraries='' directory outside
  libc=$(cd "$1/root" && find . -path '*/lib/*' -name libc.so.6 -printf '%P\n' | head -n1)
  libc=${libc%/*}
  loader=$(cd "$1/root" && find "./$libc" -maxdepth 1 -name 'ld-linux*.so.*' -printf '%f\n' | head -n1)
  [[ -n $libc && -n $loader ]] || die "the suite's C library has no loader"
  ln -s "$(realpath --relative-to="$1/root/$libc" "$1/root")" "$1/root/$libc/qemu-bundle"
  for directory in "$libc" "usr/$libc"; do libraries+=\$root/$directory:; done
  for program in "${programs[@]}"; do
    [[ -x $1/root/usr/bin/$program ]] || die "the suite has no $program"
    cat >"$1/$program" <<WRAPPER
#!/bin/sh
root=\$(dirname "\$(readlink -f "\$0")")/root
exec "\$root/$libc/$loader" --library-path "${libraries%:}" --argv0 "\$0" "\$root/usr/bin/$program" "\$@"
WRAPPER
    chmod +x "$1/$program"
    "$1/$program" -version >&2 || die "$program of this suite does not run here"
    outside=$("$1/$program" -L help | grep -v "^$1/root/" || true)
    [[ -z $outside ]] || die "$program of this suite would take firmware from $outside"
  done
}

fetch() {  # SUITE
  local suite=$1 apt=$cache/downloads/apt-$1 apt_options version work
  prepare_apt "$apt" "$suite"
  say "asking the mirror for $suite"
  apt-get "${apt_options[@]}" update </dev/null >&2 || die "the mirror gives no package lists of $suite; see above"
  version=$(apt-cache "${apt_options[@]}" policy "${packages[0]}" | sed -n 's/^ *Candidate: //p' | grep -v '(none)') ||
    die "$suite has no ${packages[0]}"
  version=${version#*:}
  if [[ ! -f $qemus/$version/complete ]]; then
    rm -f "$apt"/archives/*.deb  # of another version, after --update
    # The names of what is to be installed say nothing here.
    apt-get "${apt_options[@]}" -y --download-only install "${packages[@]}" </dev/null |
      grep -E '^(Get:|Need to get|E:|W:)' >&2 || die "download failed; is the network up?"
    say "unpacking QEMU $version"
    work=$qemus/.partial-$suite
    rm -rf "$work"
    mkdir -p "$work"
    unpack "$apt/archives" "$work/root"
    write_wrappers "$work"
    printf '%s\n' "$version" >"$work/complete"
    sync -f "$work"
    rm -rf "${qemus:?}/$version"
    mv "$work" "$qemus/$version"
  fi
  ln -sfn "$version" "$qemus/$suite"
  rm -rf "$apt"
}

main() {
  local update='' cached='' suites=() suite
  while (($#)); do
    case $1 in
      --update) update=1 ;;
      --cached) cached=1 ;;
      -h | --help) sed -n '2,17s/^# \{0,1\}//p' "$0"; return 0 ;;
      -*) say "unknown option $1 (try --help)"; return 2 ;;
      *[!a-z]* | '') say "'$1' is no Debian release's code name; examples: trixie bookworm"; return 2 ;;
      *) suites+=("$1") ;;
    esac
    shift
  done
  ((${#suites[@]})) || suites=(trixie)
  for suite in "${suites[@]}"; do
    if [[ -z $update ]] && print_cached "$suite"; then continue; fi
    if [[ -n $cached ]]; then
      say "QEMU of $suite is not in $qemus"
      return 3
    fi
    command -v apt-cache >/dev/null || die "no apt here: this script fetches Debian's QEMU with Debian's tools"
    mkdir -p "$qemus" "$cache/downloads"
    exec {lock}>"$cache/fetch.lock"
    flock -n "$lock" || { say "another fetch is running; waiting for it"; flock "$lock"; }
    # What we waited for may be what we wanted.
    if [[ -n $update ]] || ! print_cached "$suite" >/dev/null; then fetch "$suite"; fi
    exec {lock}>&-
    print_cached "$suite" || die "$qemus/$suite is incomplete; remove it and try again"
  done
}

main "$@"
