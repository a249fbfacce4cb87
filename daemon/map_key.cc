#include "daemon/map_key.h"

#include "daemon/typed_bytes.h"
#include "daemon/wide_number.h"

namespace guestscope {

namespace {

/// The number as `size` bytes.
Result<Bytes> little_endian(std::string_view text, std::size_t size) {
  const auto number = parse_wide_number(text);
  if (!number || number->negative)
    return fail(ErrorCode::kInvalidArgument, "key: '{}' is not a number", text);
  if (!number->fits_unsigned(size * 8))
    return fail(ErrorCode::kInvalidArgument, "key: {} does not fit {} bytes", text, size);
  Bytes key(size);
  for (std::size_t i = 0; i < size && i < sizeof(number->magnitude); ++i)
    key[i] = static_cast<std::byte>(number->magnitude >> (8 * i) & 0xff);
  return key;
}

/// All bytes as hex, with or without "0x"; nothing when the text is something else.
std::optional<Bytes> whole_key(const MapContents& shape, std::string_view text) {
  auto bytes = parse_hex_bytes(text);
  if (!bytes || bytes->size() != shape.key_size) return std::nullopt;
  return bytes;
}

Result<Bytes> untyped_key(const MapContents& shape, std::string_view text) {
  if (auto bytes = whole_key(shape, text)) return *std::move(bytes);
  if (shape.key_size <= 8 && parse_wide_number(text)) return little_endian(text, shape.key_size);
  return fail(ErrorCode::kInvalidArgument,
              "key: '{}' is neither {} hex digits (all bytes in memory order) nor a number", text,
              shape.key_size * 2);
}

bool is_json(std::string_view text) {
  return text.starts_with('{') || text.starts_with('[') || text.starts_with('"');
}

Result<Json> parse_json(std::string_view text) {
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded())
    return fail(ErrorCode::kInvalidArgument, "key: '{}' is not valid JSON", text);
  return json;
}

Result<Bytes> typed_key(const MapContents& shape, std::string_view text) {
  const Btf& btf = *shape.btf;
  const TypeId type = btf.resolve(shape.key_type).value_or(0);
  Json json;
  if (is_json(text)) {
    GS_ASSIGN(json, parse_json(text));
  } else {
    const BtfKind kind = btf.kind(type);
    const bool text_itself = is_text_array(btf, type);
    const bool nested = kind == BtfKind::kStruct || kind == BtfKind::kUnion ||
                        (kind == BtfKind::kArray && !text_itself);
    if (nested) {
      if (auto bytes = whole_key(shape, text)) return *std::move(bytes);
      return fail(ErrorCode::kInvalidArgument,
                  "key: '{}' is neither JSON of {} nor {} hex digits (all bytes in memory order)",
                  text, btf.describe(type), shape.key_size * 2);
    }
    json = std::string(text);
  }
  return encode_value(btf, shape.key_type, json, shape.key_size, "key");
}

bool has_fitting_type(const MapContents& shape) {
  if (!shape.btf || shape.key_type == 0) return false;
  const auto size = shape.btf->size_of(shape.key_type);
  return size && *size <= shape.key_size;
}

Result<void> check_has_keys(const MapContents& shape) {
  if (shape.keys != KeyForm::kNone) return {};
  return fail(ErrorCode::kInvalidArgument, "the entries of this map have no keys");
}

}  // namespace

Result<Bytes> make_key(const MapContents& shape, std::string_view text) {
  GS_CHECK(check_has_keys(shape));
  if (shape.keys != KeyForm::kBytes) return little_endian(text, shape.key_size);
  if (has_fitting_type(shape)) return typed_key(shape, text);
  if (!text.starts_with('"')) return untyped_key(shape, text);
  GS_ASSIGN(const Json json, parse_json(text));  // as such keys are printed
  return untyped_key(shape, json.get<std::string>());
}

Result<Bytes> parse_hex_key(const MapContents& shape, std::string_view text) {
  GS_CHECK(check_has_keys(shape));
  if (auto bytes = whole_key(shape, text)) return *std::move(bytes);
  return fail(ErrorCode::kInvalidArgument,
              "key_hex: '{}' is not {} hex digits (the {} bytes of the key in memory order)", text,
              shape.key_size * 2, shape.key_size);
}

}  // namespace guestscope
