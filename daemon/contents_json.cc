#include "daemon/contents_json.h"

#include "daemon/facts_json.h"
#include "daemon/guest_json.h"
#include "introspect/hidden_fields.h"

namespace guestscope {

namespace {

// Text is collected to pieces of this size before it is written.
constexpr std::size_t kPieceBytes = 64 << 10;

/// The entries of one part.
class PartWriter {
 public:
  /// `before`: entries of earlier parts.
  PartWriter(const MapContents& contents, const EntryOptions& options, std::size_t before,
             Problems& problems)
      : contents_(contents), options_(options), before_(before), problems_(problems) {
    if (contents.btf) plan_.emplace(*contents.btf);
  }

  void append_entry(std::string& text, std::size_t record) {
    text += '{';
    append_key(text, record);
    if (!contents_.values_shown) {
      if (options_.raw && contents_.value(record))
        append_hex(text, "value_hex", as_looked_up(contents_, *contents_.value(record), scratch_));
    } else if (contents_.cpus.empty()) {
      append_cell(text, record, 0);
    } else {
      append_cells(text, record);
    }
    append_facts(text, contents_.facts_of(record));
    text += '}';
  }

 private:
  void append_cells(std::string& text, std::size_t record) {
    begin_member(text, "values");
    text += '[';
    for (std::size_t cell = 0; cell < contents_.cells(); ++cell) {
      if (options_.cpu && contents_.cpus[cell] != *options_.cpu) continue;
      if (text.back() != '[') text += ',';
      text += "{\"cpu\":";
      text += fmt::format_int(contents_.cpus[cell]).c_str();
      append_cell(text, record, cell);
      text += '}';
    }
    text += ']';
  }

  void append_key(std::string& text, std::size_t record) {
    const KeyForm form = contents_.keys;
    if (form == KeyForm::kNone) return;
    begin_member(text, "key");
    if (form == KeyForm::kBytes)
      append_typed(text, contents_.key_type, contents_.key(record), record, "key");
    else
      text += fmt::format_int(contents_.key_number(record)).c_str();
    if (!options_.raw) return;
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
    if (!options_.raw) return;
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
      problems_.add(fmt::format("entries[{}].{}", before_ + record, what), error);
    };
    if (plan_ && type != 0) {
      // A key is shown as it has to be given.
      const auto done = what == "key"
                            ? append_value(text, *plan_, type, bytes, problem)
                            : append_value(text, *plan_, type, bytes, problem, contents_.functions);
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
  const EntryOptions& options_;
  std::size_t before_;
  Problems& problems_;
  std::optional<ValuePlan> plan_;
  Bytes scratch_;
};

}  // namespace

bool EntriesWriter::part(const MapContents& contents) {
  std::string piece;
  if (!begun_) {
    append_facts(piece, contents.facts);
    piece += piece.empty() ? "\"entries\":[" : ",\"entries\":[";
    begun_ = true;
  }
  problems_.add_all(contents.problems);
  PartWriter part(contents, options_, written_, problems_);
  for (std::size_t record = 0; record < contents.size(); ++record) {
    if (written_ + record != 0) piece += ',';
    part.append_entry(piece, record);
    if (piece.size() < kPieceBytes) continue;
    if (!write_(piece)) return false;
    piece.clear();
  }
  written_ += contents.size();
  return piece.empty() || write_(piece);
}

bool EntriesWriter::end() {
  std::string piece = begun_ ? "]" : "\"entries\":null";
  if (!problems_.empty()) piece += ",\"problems\":" + dump_json(problems_json(problems_));
  return write_(piece);
}

}  // namespace guestscope
