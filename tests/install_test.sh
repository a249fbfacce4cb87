#!/usr/bin/env bash
# Installs a build to a temporary prefix and uses it from there: the daemon starts, and another project finds the
# libraries with find_package(guestscope), includes every installed header and links.
#
#   tests/install_test.sh BUILD_DIRECTORY
set -euo pipefail

build=${1:?usage: install_test.sh BUILD_DIRECTORY}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prefix=$work/prefix

cmake --install "$build" --prefix "$prefix" >"$work/log" || { cat "$work/log"; exit 1; }

version=$("$prefix/bin/guestscope" --version)
echo "installed: $version"
expected=$(sed -n 's/^CMAKE_PROJECT_VERSION:STATIC=//p' "$build/CMakeCache.txt")
grep -qF "$expected" <<<"$version" || { echo "--version does not name $expected"; exit 1; }

mkdir "$work/consumer"
cat >"$work/consumer/CMakeLists.txt" <<'CMAKE'
cmake_minimum_required(VERSION 3.25)
project(consumer LANGUAGES CXX)
find_package(guestscope REQUIRED)
add_executable(consumer main.cc)
target_link_libraries(consumer PRIVATE guestscope::gdbproto guestscope::introspect)
CMAKE
{
  # Every header on its own terms: whatever it needs must have been installed too.
  (cd "$prefix/include/guestscope" && find . -name '*.h' -printf '%P\n' | LC_ALL=C sort |
    sed 's/.*/#include "&"/')
  echo 'int main() { return 0; }'
} >"$work/consumer/main.cc"
headers=$(grep -c '^#include' "$work/consumer/main.cc")
((headers > 0)) || { echo "no headers were installed"; exit 1; }

compiler=$(sed -n 's/^CMAKE_CXX_COMPILER:[A-Z]*=//p' "$build/CMakeCache.txt")
flags=$(sed -n 's/^CMAKE_CXX_FLAGS:[A-Z]*=//p' "$build/CMakeCache.txt")
cmake -G Ninja -S "$work/consumer" -B "$work/consumer/build" -DCMAKE_PREFIX_PATH="$prefix" \
  -DCMAKE_CXX_COMPILER="$compiler" -DCMAKE_CXX_FLAGS="$flags" >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
cmake --build "$work/consumer/build" >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
"$work/consumer/build/consumer"
echo "a consumer builds with $headers installed headers"
