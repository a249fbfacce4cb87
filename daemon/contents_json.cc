#include "daemon/contents_json.h"

#include "daemon/facts_json.h"
#include "daemon/guest_json.h"
#include "introspect/hidden_fields.h"

namespace guestscope {

namespace {

// Text is collected to pieces of this size before it is written.
constexpr std::size_t kPieceBytes = 64 << 10;

class EntryWriter {
 public:
  EntryWriter(const MapContents& contents, bool raw, const Problems& further)
      : contents_(contents), raw_(raw), problems_(further) {
    problems_.add_all(contents.problems);
    if (contents.btf) plan_.emplace(*contents.btf);
  }

  void append_entry(std::string& text, std::size_t record) {
    text += '{';
    append_key(text, record);
    if (!contents_.values_shown) {
      if (raw_ && contents_.value(record))
        append_hex(text, "value_hex", as_looked_up(contents_, *contents_.value(record), scratch_));
    } else if (contents_.cpus.empty()) {
      append_cell(text, record, 0);
    } else {
      begin_member(text, "values");
      text += '[';
      for (std::size_t cell = 0; cell < contents_.cells(); ++cell) {
        text += fmt::format("{}{{\"cpu\":{}", cell == 0 ? "" : ",", contents_.cpus[cell]);
        append_cell(text, record, cell);
        text += '}';
      }
      text += ']';
    }
    append_facts(text, contents_.facts_of(record));
    text += '}';
  }

  const Problems& problems() const { return problems_; }

 private:
  void append_key(std::string& text, std::size_t record) {
    const KeyForm form = contents_.keys;
    if (form == KeyForm::kNone) return;
    begin_member(text, "key");
    if (form == KeyForm::kBytes)
      append_typed(text, contents_.key_type, contents_.key(record), record, "key");
    else
      text += fmt::format_int(contents_.key_number(record)).c_str();
    if (!raw_) return;
    if (form == KeyForm::kIndex)
      append_hex(text, "key_hex", index_bytes(record));
    else
      append_hex(text, "key_hex", contents_.key(record));
  }

  void append_cell(std::string& text, std::size_t record, std::size_t cell) {
    const auto value = contents_.value(record, cell);
    begin_member(text, "value");
    if (value)
      append_typed(text, contents_.value_type, *value, record, "value");
    else
      text += "null";
    if (!raw_) return;
    if (value)
      append_hex(text, "value_hex", as_looked_up(contents_, *value, scratch_));
    else
      text += ",\"value_hex\":null";
  }

  static void begin_member(std::string& text, std::string_view name) {
    if (text.back() != '{') text += ',';
    text += '"';
    text += name;
    text += "\":";
  }

  /// By its type; bytes without a type, or with one that does not fit them, as hex.
  void append_typed(std::string& text, TypeId type, ByteSpan bytes, std::size_t record,
                    std::string_view what) {
    const auto problem = [&](const Error& error) {
      problems_.add(fmt::format("entries[{}].{}", record, what), error);
    };
    if (plan_ && type != 0) {
      const auto done = append_value(text, *plan_, type, bytes, problem);
      if (done) return;
      problem(done.error());
    }
    append_string(text, hex_bytes(bytes));
  }

  static void append_hex(std::string& text, std::string_view name, ByteSpan bytes) {
    begin_member(text, name);
    text += '"';
    text += hex_bytes(bytes);
    text += '"';
  }

  /// The key of an array element as the kernel's interface has it: a number of key_size bytes.
  Bytes index_bytes(std::size_t record) const {
    Bytes key(contents_.key_size);
    for (std::size_t i = 0; i < std::min<std::size_t>(key.size(), 4); ++i)
      key[i] = static_cast<std::byte>(contents_.key_number(record) >> (8 * i) & 0xff);
    return key;
  }

  const MapContents& contents_;
  bool raw_;
  Problems problems_;
  std::optional<ValuePlan> plan_;
  Bytes scratch_;
};

}  // namespace

bool write_entries(const MapContents& contents, bool raw, const Problems& further,
                   const WriteBody& write) {
  EntryWriter writer(contents, raw, further);
  std::string piece;
  append_facts(piece, contents.facts);
  piece += piece.empty() ? "\"entries\":[" : ",\"entries\":[";
  for (std::size_t record = 0; record < contents.size(); ++record) {
    if (record != 0) piece += ',';
    writer.append_entry(piece, record);
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
