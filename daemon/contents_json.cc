#include "daemon/contents_json.h"

#include "daemon/guest_json.h"

namespace guestscope {

namespace {

// Text is collected to pieces of this size before it is written.
constexpr std::size_t kPieceBytes = 64 << 10;

class EntryWriter {
 public:
  EntryWriter(const MapContents& contents, bool raw)
      : contents_(contents), raw_(raw), problems_(contents.problems) {}

  Json entry(std::size_t record) {
    Json json;
    if (contents_.indexed) {
      json["key"] = record;
      if (raw_) json["key_hex"] = hex_index(record);
    } else {
      json["key"] = typed(contents_.key_type, contents_.key(record), record, "key");
      if (raw_) json["key_hex"] = hex_bytes(contents_.key(record));
    }
    if (contents_.cpus.empty()) {
      add_value(json, record, 0);
      return json;
    }
    Json values = Json::array();
    for (std::size_t cell = 0; cell < contents_.cells(); ++cell) {
      Json one = {{"cpu", contents_.cpus[cell]}};
      add_value(one, record, cell);
      values.push_back(std::move(one));
    }
    json["values"] = std::move(values);
    return json;
  }

  const Problems& problems() const { return problems_; }

 private:
  void add_value(Json& json, std::size_t record, std::size_t cell) {
    const auto value = contents_.value(record, cell);
    json["value"] = value ? typed(contents_.value_type, *value, record, "value") : Json(nullptr);
    if (raw_) json["value_hex"] = value ? Json(hex_bytes(*value)) : Json(nullptr);
  }

  /// By its type; bytes without a type, or with one that does not fit them, as hex.
  Json typed(TypeId type, ByteSpan bytes, std::size_t record, std::string_view what) {
    if (!contents_.btf || type == 0) return hex_bytes(bytes);
    auto json = typed_value(*contents_.btf, type, bytes);
    if (json) return *std::move(json);
    problems_.add(fmt::format("entries[{}].{}", record, what), std::move(json).error());
    return hex_bytes(bytes);
  }

  std::string hex_index(std::size_t record) const {
    Bytes key(contents_.key_size);
    for (std::size_t i = 0; i < std::min<std::size_t>(key.size(), 4); ++i)
      key[i] = static_cast<std::byte>(record >> (8 * i) & 0xff);
    return hex_bytes(key);
  }

  const MapContents& contents_;
  bool raw_;
  Problems problems_;
};

}  // namespace

bool write_entries(const MapContents& contents, bool raw, const WriteBody& write) {
  EntryWriter writer(contents, raw);
  std::string piece = "\"entries\":[";
  for (std::size_t record = 0; record < contents.size(); ++record) {
    if (record != 0) piece += ',';
    piece += dump_json(writer.entry(record));
    if (piece.size() < kPieceBytes) continue;
    if (!write(piece)) return false;
    piece.clear();
  }
  piece += ']';
  if (!writer.problems().empty())
    piece += ",\"problems\":" + dump_json(problems_json(writer.problems()));
  return write(piece);
}

}  // namespace guestscope
