// What bpftool prints with -j, from the outside: `map dump id N`, and the objects of `map show`.
//
// Byte for byte, habits included (docs/interface.md lists them and where this differs), so that
// what reads bpftool's output reads this. Problems have no place in it: what cannot be read is the
// error object that bpftool prints for a look-up that fails.
//
// Threads: pure; the writer is called from within. Source of truth: map.c of bpftool 7.1.
#pragma once

#include "daemon/answer.h"
#include "daemon/request.h"
#include "introspect/map_contents.h"

namespace guestscope {

/// `?format=bpftool`. kInvalidArgument for another format.
Result<bool> wants_bpftool(const Request& request);

/// False for types of map whose keys the kernel does not list: bpftool prints an empty array.
bool bpftool_reads_contents(const MapInfo& map);

/// Writes one array of a map's entries, part by part.
class BpftoolWriter {
 public:
  struct Options {
    std::uint64_t first = 0;  ///< the index with which the first part begins
    /// Indexes that have no entry are there, as errors, where bpftool prints them; not wanted when
    /// one entry is asked for.
    bool with_absent = true;
  };

  /// Borrows both.
  BpftoolWriter(const MapInfo& map, Options options, const WriteBody& write)
      : map_(map), options_(options), write_(write), next_index_(options.first) {}
  BpftoolWriter(const MapInfo& map, const WriteBody& write) : BpftoolWriter(map, {}, write) {}

  /// False when the reader has gone.
  bool part(const MapContents& contents);
  /// The rest could not be read: an error object takes its place.
  void add_problem(std::string_view at, const Error& error);
  bool end();

 private:
  bool entries(const MapContents& contents);
  bool absent(const MapContents& contents, std::uint64_t end);
  void append_entry(const MapContents& contents, std::size_t record);
  void append_error(ByteSpan key, int error);
  void begin_entry(ByteSpan key);
  void append_values(const MapContents& contents, std::size_t record, bool typed);
  void append_formatted(const MapContents& contents, std::size_t record, ByteSpan key);
  bool flush(std::size_t at_least);

  const MapInfo& map_;
  Options options_;
  const WriteBody& write_;
  std::uint64_t next_index_;
  bool begun_ = false;  ///< the bracket is there
  bool any_ = false;    ///< an entry is there
  std::string piece_;
};

/// One object of `map show`, without "pids", "pinned", "bytes_memlock" and the device of offloaded
/// maps.
std::string bpftool_map(const MapInfo& map);

}  // namespace guestscope
