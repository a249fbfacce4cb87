#!/usr/bin/env bash
# From nothing to answers in one command, on Debian 12: installs what is missing, builds guestscope, fetches a kernel,
# boots a small guest, and looks into it while it boots and after. guestscope gets no file of the kernel: it finds
# symbols and types in the guest's memory.
#
#   examples/quickstart.sh [--port PORT] [--ci] [--preset NAME]
#
#   --port PORT  where guestscope listens; default: 8080, or the next free port
#   --ci         do not wait at the end; the exit status says whether everything was answered (also: --once)
#   --preset NAME  the CMake preset to build; default: release
#
# Ctrl-C ends it and leaves nothing running. The first run takes minutes (packages, the build), the next ones seconds.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
daemon_pid='' qemu_pid='' work='' wait_at_end=1 port='' taken='' preset=release

say() { if [[ -t 1 ]]; then printf '\n\033[1m== %s\033[0m\n' "$*"; else printf '\n== %s\n' "$*"; fi; }
die() { printf 'quickstart: %s\n' "$*" >&2; exit 1; }

# The daemon goes first: it lets go of the guest before the guest ends.
cleanup() {
  local status=$? pid
  trap '' INT TERM
  for pid in $daemon_pid $qemu_pid; do
    kill "$pid" 2>/dev/null || continue
    for _ in {1..50}; do
      kill -0 "$pid" 2>/dev/null || break
      sleep 0.1
    done
    kill -KILL "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  [[ -z $work ]] || rm -rf "$work"
  exit "$status"
}

in_use() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

free_port() {  # FIRST → the first port from there that nobody listens on
  local candidate
  for ((candidate = $1; candidate < $1 + 100; candidate++)); do
    in_use "$candidate" || { echo "$candidate"; return; }
  done
  die "no free port from $1 on"
}

alive() {  # PID NAME LOG: a child that ended is an error, with what it said last
  kill -0 "$1" 2>/dev/null && return
  printf '%s\n' "--- the last lines of $2:" >&2
  tail -n 15 "$3" >&2
  die "$2 ended"
}

# Runs a child that the kernel ends when this script is gone, even if the script is killed.
start() {  # LOG COMMAND…; the pid is in $!
  local log=$1
  shift
  setpriv --pdeathsig TERM -- "$@" </dev/null >"$log" 2>&1 &
}

start_guestscope() {  # GDB_PORT
  start "$work/guestscope.log" "$root/build/$preset/daemon/guestscope" --gdb "127.0.0.1:$1" --listen "127.0.0.1:$port"
  daemon_pid=$!
  for _ in {1..300}; do
    alive "$daemon_pid" guestscope "$work/guestscope.log"
    curl -fsS -m 2 -o /dev/null "localhost:$port/healthz" 2>/dev/null && return
    sleep 0.1
  done
  die "guestscope does not answer on port $port"
}

start_guest() {  # VMLINUZ IMAGE GDB_PORT
  start "$work/qemu.log" qemu-system-x86_64 -nodefaults -no-user-config -display none -accel tcg,thread=multi \
    -machine q35 -cpu max -smp 2 -m 512M -kernel "$1" -initrd "$2" -append 'console=ttyS0 quiet' \
    -chardev "file,id=console,path=$work/console" -serial chardev:console \
    -gdb "tcp:127.0.0.1:$3"
  qemu_pid=$!
}

# Polls /readyz and prints each change, until guestscope can read everything and the guest's own programs are up.
watch_readiness() {
  local last='' now deadline=$((SECONDS + 120)) began=$EPOCHREALTIME
  while ((SECONDS < deadline)); do
    alive "$qemu_pid" QEMU "$work/qemu.log"
    alive "$daemon_pid" guestscope "$work/guestscope.log"
    now=$(curl -sS -m 5 "localhost:$port/readyz" | jq -r '
      [.guest.connection] + (.accessors | to_entries | map("\(.key): \(.value.state)")) | join("   ")' 2>/dev/null) || now=''
    if [[ -n $now && $now != "$last" ]]; then
      printf '%6s s   %s\n' "$(seconds_since "$began")" "$now"
      last=$now
    fi
    if curl -fsS -m 5 -o /dev/null "localhost:$port/readyz" 2>/dev/null && grep -q 'GUEST READY' "$work/console" 2>/dev/null; then
      printf '%6s s   the guest has loaded its BPF programs\n' "$(seconds_since "$began")"
      return
    fi
    sleep 0.1
  done
  tail -n 5 "$work/console" "$work/guestscope.log" >&2 || true
  die "not ready within two minutes"
}

seconds_since() {  # EPOCHREALTIME of then
  local us=$((${EPOCHREALTIME/[.,]/} - ${1/[.,]/}))
  printf '%d.%02d' $((us / 1000000)) $((us % 1000000 / 10000))
}

show() {  # PATH JQ-FILTER: one real answer, shortened; null or false is a failure
  printf "\n\$ curl -s 'localhost:%s%s' | jq -c '%s'\n" "$port" "$1" "$2"
  curl -fsS -m 30 "localhost:$port$1" >"$work/answer" || die "GET $1 failed: $(curl -sS -m 5 "localhost:$port$1" | head -c 500)"
  jq -ce "$2" "$work/answer" || die "GET $1 gave no such answer: $(head -c 500 "$work/answer")"
}

show_answers() {
  show /status '.kernel | {release, arch, symbols_from, types_from}'
  show /status '{run_state: .guest.run_state, kaslr_slide: .kernel.kaslr_slide, pauses}'
  show '/maps?type=percpu_hash' '.maps[] | {id, name, key_size, value_size, max_entries}'
  show /maps/t_nested '.entries[0]'
  show '/maps/live_switches' '.entries[0].values'
  show /progs '.progs[] | select(.run_cnt > 0) | {id, name, type, run_cnt, run_time_ns}'
  show /runqueues '.runqueues[] | {cpu, nr_running, nr_switches, curr: .curr.comm, class: .curr.class, util_avg: .cfs.util_avg}'
}

next_commands() {
  cat <<TEXT
try:
  curl -s 'localhost:$port/maps?pretty'                    every BPF map of the guest
  curl -s 'localhost:$port/maps/b_pcpu_hash?pretty'        one map, typed by its BTF, a value for each CPU
  curl -s 'localhost:$port/maps/t_bits?raw' | jq           with the bytes
  curl -s localhost:$port/progs/on_switch | jq             a program's counters, per CPU
  watch -n1 "curl -s localhost:$port/runqueues | jq -c '.runqueues[] | [.cpu, .nr_running, .curr.comm]'"
The guest's console: $work/console    guestscope's log: $work/guestscope.log
TEXT
}

main() {
  while (($#)); do
    case $1 in
      --port) port=${2:?--port needs a number}; taken=fails; shift ;;
      --ci | --once) wait_at_end='' ;;
      --preset) preset=${2:?--preset needs a name}; shift ;;
      -h | --help) sed -n '2,12s/^# \{0,1\}//p' "$0"; return 0 ;;
      *) printf 'quickstart: unknown option %s (try --help)\n' "$1" >&2; return 2 ;;
    esac
    shift
  done
  if [[ -n $taken ]]; then
    if ! [[ $port =~ ^[0-9]{1,5}$ ]] || ((10#$port < 1 || 10#$port > 65535)); then die "'$port' is no port"; fi
    ! in_use "$port" || die "port $port is in use; choose another with --port"
  fi
  trap cleanup EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM

  say "packages"
  "$root/tests/lib/packages.sh"
  say "guestscope"
  (cd "$root" && cmake --preset "$preset" >/dev/null && cmake --build --preset "$preset" --target guestscope)
  say "a kernel and a small guest"
  local kernel vmlinuz image gdb_port
  kernel=$("$root/tests/guest/fetch_kernel.sh" 6.1)
  IFS=$'\t' read -r _ _ vmlinuz _ <<<"$kernel"
  image=$("$root/tests/guest/build_image.sh")
  echo "$vmlinuz"

  [[ -n $port ]] || port=$(free_port 8080)
  gdb_port=$(free_port 1234)
  ((gdb_port != port)) || gdb_port=$(free_port $((port + 1)))
  work=$(mktemp -d -t guestscope.XXXXXX)
  say "guestscope starts on localhost:$port, then the guest boots"
  start_guestscope "$gdb_port"
  start_guest "$vmlinuz" "$image" "$gdb_port"
  watch_readiness

  say "answers"
  show_answers
  [[ -n $wait_at_end ]] || { say "all answered"; return 0; }
  say "guestscope listens on localhost:$port; Ctrl-C ends it and the guest"
  next_commands
  while true; do
    alive "$qemu_pid" QEMU "$work/qemu.log"
    alive "$daemon_pid" guestscope "$work/guestscope.log"
    sleep 1
  done
}

main "$@"
