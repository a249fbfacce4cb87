#include "daemon/bpftool_json.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "daemon/bpftool_value.h"
#include "introspect/hidden_fields.h"
#include "introspect/limits.h"

namespace guestscope {

namespace {

// Text is collected to pieces of this size before it is written.
constexpr std::size_t kPieceBytes = 64 << 10;

/// Types of map whose keys the kernel does not list.
constexpr std::string_view kWithoutKeys[] = {
    "queue",      "stack",         "ringbuf",      "user_ringbuf", "bloom_filter",
    "sk_storage", "inode_storage", "task_storage", "cgrp_storage", "arena"};

/// Of which a key without value is no entry: the kernel does not list it, or bpftool leaves it out.
constexpr std::string_view kWithHoles[] = {"prog_array", "array_of_maps", "hash_of_maps",
                                           "stack_trace"};

bool is_among(std::string_view type, std::span<const std::string_view> list) {
  return std::ranges::find(list, type) != list.end();
}

/// As strerror() of glibc says it.
std::string error_text(int error) {
  const char* known = strerrordesc_np(error);
  return known != nullptr ? known : fmt::format("Unknown error {}", error);
}

Bytes index_bytes(std::uint64_t index, std::size_t size) {
  Bytes key(size);
  for (std::size_t i = 0; i < std::min<std::size_t>(size, 4); ++i)
    key[i] = static_cast<std::byte>(index >> (8 * i) & 0xff);
  return key;
}

}  // namespace

Result<bool> wants_bpftool(const Request& request) {
  const auto format = request.query.find("format");
  if (format == request.query.end() || format->second == "guestscope") return false;
  if (format->second == "bpftool") return true;
  return fail(ErrorCode::kInvalidArgument,
              "parameter format: '{}' is neither 'bpftool' nor 'guestscope'", format->second);
}

bool bpftool_reads_contents(const MapInfo& map) { return !is_among(map.type, kWithoutKeys); }

bool BpftoolWriter::part(const MapContents& contents) {
  if (!begun_) piece_ += '[';
  begun_ = true;
  if (contents.keys == KeyForm::kNone || !bpftool_reads_contents(map_)) return flush(0);
  return entries(contents) && flush(0);
}

void BpftoolWriter::add_problem(std::string_view at, const Error& error) {
  if (!begun_) piece_ += '[';
  begun_ = true;
  piece_ += any_ ? ",{\"error\":" : "{\"error\":";
  any_ = true;
  append_bpftool_string(piece_, fmt::format("{}: {}", at, error.to_string()));
  piece_ += '}';
}

bool BpftoolWriter::end() {
  if (!begun_) piece_ += '[';
  piece_ += "]\n";
  return flush(0);
}

bool BpftoolWriter::flush(std::size_t at_least) {
  if (piece_.empty() || piece_.size() < at_least) return true;
  const bool wanted = write_(piece_);
  piece_.clear();
  return wanted;
}

bool BpftoolWriter::entries(const MapContents& contents) {
  const bool numbered = contents.keys == KeyForm::kNumber && options_.with_absent;
  for (std::size_t record = 0; record < contents.size(); ++record) {
    if (numbered && !absent(contents, contents.key_number(record))) return false;
    append_entry(contents, record);
    if (numbered) next_index_ = contents.key_number(record) + 1;
    if (!flush(kPieceBytes)) return false;
  }
  const std::uint64_t end = contents.next ? contents.next->position : map_.max_entries;
  return !numbered || absent(contents, end);
}

bool BpftoolWriter::absent(const MapContents& contents, std::uint64_t end) {
  if (contents.lookup_error == 0 && is_among(map_.type, kWithHoles)) return true;
  end = std::min(end, kMaxListedIndexes);
  for (; next_index_ < end; ++next_index_) {
    append_error(index_bytes(next_index_, contents.key_size),
                 contents.lookup_error != 0 ? contents.lookup_error : ENOENT);
    if (!flush(kPieceBytes)) return false;
  }
  return true;
}

void BpftoolWriter::begin_entry(ByteSpan key) {
  piece_ += any_ ? ",{\"key\":" : "{\"key\":";
  any_ = true;
  append_bpftool_bytes(piece_, key);
}

void BpftoolWriter::append_error(ByteSpan key, int error) {
  begin_entry(key);
  piece_ += ",\"value\":{\"error\":";
  append_bpftool_string(piece_, error_text(error));
  piece_ += "}}";
}

void BpftoolWriter::append_entry(const MapContents& contents, std::size_t record) {
  const Bytes index = contents.keys == KeyForm::kBytes
                          ? Bytes{}
                          : index_bytes(contents.key_number(record), contents.key_size);
  const ByteSpan key = contents.keys == KeyForm::kBytes ? contents.key(record) : ByteSpan(index);
  if (contents.lookup_error != 0) return append_error(key, contents.lookup_error);
  if (contents.cpus.empty() && !contents.value(record)) return append_error(key, EFAULT);
  begin_entry(key);
  append_values(contents, record, false);
  // By the map's own types; where the kernel has none, we may know better, and bpftool does not.
  const bool has_types = map_.btf_id != 0 || map_.btf_vmlinux_value_type_id != 0;
  if (has_types && contents.btf && contents.value_type != 0)
    append_formatted(contents, record, key);
  piece_ += '}';
}

void BpftoolWriter::append_formatted(const MapContents& contents, std::size_t record,
                                     ByteSpan key) {
  piece_ += ",\"formatted\":{";
  if (contents.key_type != 0) {
    piece_ += "\"key\":";
    append_bpftool_value(piece_, *contents.btf, contents.key_type, key);
  }
  append_values(contents, record, true);
  piece_ += '}';
}

void BpftoolWriter::append_values(const MapContents& contents, std::size_t record, bool typed) {
  Bytes scratch;
  const auto append = [&](std::size_t cell) {
    const auto value = contents.value(record, cell);
    if (!value)
      piece_ += "null";
    else if (typed)
      append_bpftool_value(piece_, *contents.btf, contents.value_type,
                           as_looked_up(contents, *value, scratch));
    else
      append_bpftool_bytes(piece_, as_looked_up(contents, *value, scratch));
  };
  if (piece_.back() != '{') piece_ += ',';
  if (contents.cpus.empty()) {
    piece_ += "\"value\":";
    return append(0);
  }
  piece_ += "\"values\":[";
  for (std::size_t cell = 0; cell < contents.cells(); ++cell) {
    // bpftool counts the possible CPUs; it does not know their numbers.
    piece_ += fmt::format("{}{{\"cpu\":{},\"value\":", cell == 0 ? "" : ",", cell);
    append(cell);
    piece_ += '}';
  }
  piece_ += ']';
}

std::string bpftool_map(const MapInfo& map) {
  std::string text = fmt::format("{{\"id\":{},\"type\":", map.id);
  if (map.type.starts_with("type_"))  // a type that has no name is its number
    text += map.type.substr(5);
  else
    append_bpftool_string(text, map.type);
  if (!map.name.empty()) {
    text += ",\"name\":";
    append_bpftool_string(text, map.name);
  }
  text += fmt::format(",\"flags\":{}", static_cast<std::int32_t>(map.flags & 0xffffffff));
  text += fmt::format(",\"bytes_key\":{},\"bytes_value\":{},\"max_entries\":{}", map.key_size,
                      map.value_size, map.max_entries);
  text += fmt::format(",\"frozen\":{}", map.frozen ? 1 : 0);
  if (map.btf_id != 0) text += fmt::format(",\"btf_id\":{}", map.btf_id);
  return text + "}";
}

}  // namespace guestscope
