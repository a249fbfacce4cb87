// A map's contents as JSON text, part by part and entry by entry, so that a large map never exists
// as one tree.
//
// Threads: pure; the writer is called from within.
#pragma once

#include "daemon/answer.h"
#include "introspect/map_contents.h"

namespace guestscope {

struct EntryOptions {
  bool raw = false;               ///< with key_hex and value_hex
  std::optional<unsigned> cpu{};  ///< of per-CPU maps, this CPU's values only
};

/// Writes the facts of the map as a whole, `"entries":[…]` and, when there are any,
/// `,"problems":[…]` (with `at` relative to the map): members of an object that the caller has
/// begun. Every part() continues the entries of the one before.
class EntriesWriter {
 public:
  /// Borrows `write`. `further`: problems that are told before the contents' own.
  EntriesWriter(EntryOptions options, Problems further, const WriteBody& write)
      : options_(options), problems_(std::move(further)), write_(write) {}

  /// False when the reader has gone.
  bool part(const MapContents& contents);
  /// What goes wrong between parts.
  void add_problem(std::string at, Error error) { problems_.add(std::move(at), std::move(error)); }
  bool end();

 private:
  EntryOptions options_;
  Problems problems_;
  const WriteBody& write_;
  std::size_t written_ = 0;  ///< entries, in all parts
  bool begun_ = false;
};

}  // namespace guestscope
