// KallsymsBuilder: an image with kallsyms tables as some kernel has them, written the way
// scripts/kallsyms.c writes them.
//
// Compression is poor but of the right form: characters stand for themselves, a few pieces have
// tokens of their own, unused tokens are empty.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "arch/bytes.h"

namespace guestscope::test {

struct KallsymsShape {
  enum class Encoding { kUnsigned, kPerCpu, kPlace, kAbsolute };
  enum class Seqs { kNone, kBeforeTokens, kLast };

  std::string_view name;
  Encoding encoding = Encoding::kUnsigned;
  bool addresses_first = false;
  Seqs seqs = Seqs::kNone;
  std::size_t align = 8;

  static const std::vector<KallsymsShape>& all() {
    using enum Encoding;
    static const std::vector<KallsymsShape> kAll = {
        {"5.10 x86-64", kPerCpu, true, Seqs::kNone, 8},
        {"5.10 arm64", kUnsigned, true, Seqs::kNone, 8},
        {"5.10 absolute", kAbsolute, true, Seqs::kNone, 8},
        {"6.2 x86-64", kPerCpu, true, Seqs::kBeforeTokens, 8},
        {"6.2 arm64", kUnsigned, true, Seqs::kBeforeTokens, 8},
        {"6.4 absolute", kAbsolute, false, Seqs::kLast, 8},
        {"6.12 x86-64", kPerCpu, false, Seqs::kLast, 8},
        {"6.12 arm64", kUnsigned, false, Seqs::kLast, 8},
        {"words, aligned to 4", kUnsigned, false, Seqs::kLast, 4},
        {"7.2", kPlace, false, Seqs::kLast, 4},
    };
    return kAll;
  }
};

class KallsymsBuilder {
 public:
  static constexpr std::uint64_t kTables = 0x9000;  // in the image

  struct Added {
    std::uint64_t value;
    std::string name;
    char type;
  };

  /// By address. Values below `image_address` are absolute.
  void add(std::uint64_t value, char type, std::string name) {
    symbols_.push_back({value, std::move(name), type});
  }
  const std::vector<Added>& symbols() const { return symbols_; }

  /// What relative_base holds instead of the lowest address.
  void set_stored_base(std::uint64_t base) { stored_base_ = base; }

  /// An image whose first byte is at `image_address`, `after` bytes of it behind the tables.
  Bytes image(const KallsymsShape& shape, std::uint64_t image_address, std::size_t after = 64) {
    out_.assign(kTables, std::byte{0xcc});
    shape_ = &shape;
    base_ = 0;
    image_address_ = image_address;
    for (std::size_t i = symbols_.size(); i-- > 0;)
      if (!is_absolute(i)) base_ = symbols_[i].value;
    if (shape.addresses_first) addresses();
    label();
    put(symbols_.size(), 4);
    names();
    if (shape.seqs == KallsymsShape::Seqs::kBeforeTokens) seqs();
    tokens();
    if (!shape.addresses_first) addresses();
    if (shape.seqs == KallsymsShape::Seqs::kLast) seqs();
    tables_end_ = out_.size();
    out_.insert(out_.end(), after, std::byte{0xcc});
    return out_;
  }

  // Of the last image:
  std::size_t tables_end() const { return tables_end_; }
  std::size_t base_at() const { return base_at_; }

 private:
  // The lowest tokens, as in real kernels: compressed names contain zeros.
  static constexpr std::array<std::string_view, 5> kPieces = {"Tsym", "tfunc_", "_init", "do_",
                                                              "sy"};

  bool is_absolute(std::size_t i) const { return symbols_[i].value < image_address_; }

  void put(std::uint64_t value, std::size_t size) {
    for (std::size_t i = 0; i < size; ++i)
      out_.push_back(static_cast<std::byte>(value >> (8 * i) & 0xff));
  }
  void label() {
    while (out_.size() % shape_->align != 0) put(0, 1);
  }

  void addresses() {
    using enum KallsymsShape::Encoding;
    label();
    for (std::size_t i = 0; i < symbols_.size(); ++i) {
      const std::uint64_t value = symbols_[i].value;
      switch (shape_->encoding) {
        case kUnsigned: put(value - base_, 4); break;
        case kPerCpu: put(is_absolute(i) ? value : base_ - 1 - value, 4); break;
        case kPlace: put(value - (image_address_ + out_.size()), 4); break;
        case kAbsolute: put(value, 8); break;
      }
    }
    if (shape_->encoding == kPlace || shape_->encoding == kAbsolute) return;
    label();
    base_at_ = out_.size();
    put(stored_base_.value_or(base_), 8);
  }

  std::string compressed(std::string_view text) const {
    std::string tokens;
    while (!text.empty()) {
      char token = text.front();
      std::size_t size = 1;
      for (std::size_t i = 0; i < kPieces.size() && size == 1; ++i)
        if (text.starts_with(kPieces[i])) {
          token = static_cast<char>(i);
          size = kPieces[i].size();
        }
      tokens += token;
      text.remove_prefix(size);
    }
    return tokens;
  }

  void names() {
    label();
    const std::size_t begin = out_.size();
    std::vector<std::size_t> markers;
    for (std::size_t i = 0; i < symbols_.size(); ++i) {
      if (i % 256 == 0) markers.push_back(out_.size() - begin);
      const std::string text = compressed(symbols_[i].type + symbols_[i].name);
      if (text.size() < 0x80) {
        put(text.size(), 1);
      } else {
        put((text.size() & 0x7f) | 0x80, 1);
        put(text.size() >> 7, 1);
      }
      for (const char c : text) put(static_cast<unsigned char>(c), 1);
    }
    label();
    for (const std::size_t marker : markers) put(marker, 4);
  }

  void tokens() {
    label();
    std::vector<std::size_t> index;
    const std::size_t begin = out_.size();
    for (std::size_t token = 0; token < 256; ++token) {
      index.push_back(out_.size() - begin);
      if (token > ' ' && token < 0x7f) put(token, 1);
      if (token < kPieces.size())
        for (const char c : kPieces[token]) put(static_cast<unsigned char>(c), 1);
      put(0, 1);
    }
    label();
    for (const std::size_t offset : index) put(offset, 2);
  }

  void seqs() {
    label();
    for (std::size_t i = symbols_.size(); i-- > 0;) {
      put(i >> 16, 1);
      put(i >> 8, 1);
      put(i, 1);
    }
  }

  std::vector<Added> symbols_;
  std::optional<std::uint64_t> stored_base_;
  const KallsymsShape* shape_ = nullptr;
  Bytes out_;
  std::uint64_t base_ = 0;
  std::uint64_t image_address_ = 0;
  std::size_t tables_end_ = 0;
  std::size_t base_at_ = 0;
};

/// `count` symbols around the tables of an image at `image_address`: text, data, long names, names
/// that occur twice, and, if asked for, per-CPU symbols that are numbers.
inline KallsymsBuilder kallsyms_of(std::uint64_t image_address, std::size_t count, bool per_cpu) {
  constexpr std::size_t kVariables = 20;
  KallsymsBuilder builder;
  if (per_cpu) {
    builder.add(0, 'D', "fixed_percpu_data");
    builder.add(0x31980, 'A', "runqueues");
  }
  builder.add(image_address, 'T', "_text");
  builder.add(image_address, 'T', "_stext");
  for (std::size_t i = 0; builder.symbols().size() + 3 + kVariables < count; ++i)
    builder.add(image_address + 0x10 * (i + 1), i % 3 == 0 ? 'T' : 't',
                "sym" + std::to_string(i / 2));
  builder.add(image_address + 0x100000, 't', std::string(300, 'q') + "_a_long_rust_name");
  builder.add(image_address + 0x200000, 'D', "map_idr");
  for (std::size_t i = 0; i < kVariables; ++i)
    builder.add(image_address + 0x200100 + i, 'd', "variable" + std::to_string(i));
  builder.add(image_address + 0x300000, 'B', "_end");
  return builder;
}

}  // namespace guestscope::test
