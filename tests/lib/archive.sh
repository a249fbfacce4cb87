# shellcheck shell=bash
# Debian's packages of other releases and architectures, beside the machine's own apt. To be sourced; needs no root.
#
#   archive SUITE ARCH TOOL ARGUMENTS…      apt-get or apt-cache with that suite's lists, which are fetched when missing
#   archive_update SUITE ARCH               fetches them anew; fails when the mirror has no such suite
#   archive_candidate SUITE ARCH PACKAGE    the newest version, or fails
#   archive_download SUITE ARCH PACKAGE VERSION    the path of the verified .deb; or says why not, and fails
#
# The mirror is the one that the machine's own apt is configured with. Lists and packages are kept in
# ${GUESTSCOPE_CACHE:-~/.cache/guestscope}; the machine's own lists and packages are never touched. What comes from the
# mirror is verified as apt verifies: the keys of debian-archive-keyring sign the lists, whose hashes are the packages'.

cache=${GUESTSCOPE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/guestscope}
downloads=$cache/downloads
readonly archive_keys=/usr/share/keyrings/debian-archive-keyring.gpg

# Names differ from suite to suite only in that the security archive is a place of its own.
archive_mirror() {  # SUITE → URI
  local label=Debian path=debian uri
  [[ $1 == *-security ]] && label=Debian-Security path=debian-security
  # By label, which is known when the machine's lists are there, or else by the path that every mirror has.
  # shellcheck disable=SC2016 # apt's own variables
  uri=$(apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' | awk -v label="$label" -v path="/$path/" '
    $1 == label && !by_label { by_label = $2 }
    substr($2, length($2) - length(path) + 1) == path && !by_path { by_path = $2 }
    END { print by_label ? by_label : by_path }')
  [[ -n $uri ]] || die "the machine's apt is configured with no mirror of $label"
  printf '%s\n' "$uri"
}

archive_configure() {  # SUITE ARCH DIRECTORY
  local suite=$1 arch=$2 dir=$3 uri
  [[ -s $archive_keys ]] || die "$archive_keys is missing; run tests/lib/packages.sh guest"
  uri=$(archive_mirror "$suite")
  mkdir -p "$dir"/{lists,archives}/partial "$dir/none"
  : >"$dir/status"
  printf '%s\n' "Types: deb" "URIs: $uri" "Suites: $suite" "Components: main" "Architectures: $arch" "Targets: Packages" \
    "Signed-By: $archive_keys" >"$dir/debian.sources"
  # The machine's configuration (a proxy, for example) is read first; this comes on top. An old release's list is signed
  # as a new one's is, but not renewed.
  cat >"$dir/apt.conf" <<CONF
APT::Architecture "$arch";
#clear APT::Architectures;
APT::Architectures { "$arch"; };
APT::Sandbox::User "";
#clear APT::Update;
#clear DPkg::Post-Invoke;
Dir::Etc::sourcelist "$dir/debian.sources";
Dir::Etc::sourceparts "$dir/none";
Dir::Etc::preferences "$dir/none";
Dir::Etc::preferencesparts "$dir/none";
Dir::State "$dir";
Dir::State::status "$dir/status";
Dir::Cache "$dir";
Dir::Cache::archives "archives";
Acquire::Languages "none";
Acquire::Check-Valid-Until "false";
Debug::NoLocking "true";
CONF
}

archive_update() {  # SUITE ARCH
  local dir=$cache/apt/$2/$1
  archive_configure "$1" "$2" "$dir"
  say "updating the package list of $1 ($2)"
  APT_CONFIG=$dir/apt.conf apt-get -q update </dev/null >"$dir/log" 2>&1 || return 1
  : >"$dir/updated"
}

archive() {  # SUITE ARCH TOOL ARGUMENTS…
  local suite=$1 arch=$2 dir=$cache/apt/$2/$1
  shift 2
  [[ -f $dir/updated ]] || archive_update "$suite" "$arch" || return 1
  APT_CONFIG=$dir/apt.conf "$@"
}

archive_candidate() {  # SUITE ARCH PACKAGE → the version that apt would install, or fails
  archive "$1" "$2" apt-cache policy "$3" 2>/dev/null | sed -n 's/^ *Candidate: //p' | grep -v '(none)'
}

# Prints how much has arrived every few seconds: apt-get shows its own progress only on a terminal.
archive_progress() {  # FILE TOTAL NAME
  local have
  # The sleep outlives this by up to three seconds, and must not hold the lock of who called.
  [[ -z ${lock:-} ]] || exec {lock}>&-
  while sleep 3 && kill -0 $$ 2>/dev/null; do
    have=$(stat -c %s "$1" 2>/dev/null || echo 0)
    say "$3: $((have >> 20)) of $(($2 >> 20)) MB"
  done
}

archive_verified() {  # FILE SHA256: apt checks what it downloads; this also covers a file left by an interrupted run
  [[ -s $1 ]] && printf '%s  %s\n' "$2" "$1" | sha256sum --check --status && dpkg-deb --info "$1" >/dev/null 2>&1
}

archive_download() {  # SUITE ARCH PACKAGE VERSION → path of the verified .deb
  local suite=$1 arch=$2 package=$3 version=$4 record size sha name file progress status=0
  record=$(archive "$suite" "$arch" apt-cache show "$package=$version") || { say "$suite has no $package $version"; return 1; }
  size=$(sed -n 's/^Size: //p' <<<"$record" | head -n1)
  sha=$(sed -n 's/^SHA256: //p' <<<"$record" | head -n1)
  name=$(sed -n 's/^Architecture: //p' <<<"$record" | head -n1)
  file=$downloads/${package}_${version//:/%3a}_$name.deb
  mkdir -p "$downloads"
  if ! archive_verified "$file" "$sha"; then
    rm -f "$file"
    say "downloading $package $version ($((size >> 20)) MB)"
    archive_progress "$file" "$size" "$package" &
    progress=$!
    (cd "$downloads" && archive "$suite" "$arch" apt-get -q download "$package=$version" </dev/null >&2) || status=$?
    kill "$progress" 2>/dev/null || true
    wait "$progress" 2>/dev/null || true
    ((status == 0)) || { say "$suite: $package cannot be had; is the network up?"; return 1; }
    archive_verified "$file" "$sha" || { say "$file is damaged"; return 1; }
  fi
  printf '%s\n' "$file"
}
