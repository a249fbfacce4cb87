// The names of kallsyms: where the tokens and the compressed names lie, proved, and their text.
//
// Borrows the image. Threads: plain values and pure functions. Nothing here can leave the image.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "arch/bytes.h"
#include "introspect/kallsyms.h"

namespace guestscope {

struct KallsymsTokens {
  std::size_t begin = 0;  ///< of token_table
  std::size_t end = 0;    ///< of token_index
  std::array<std::string_view, 256> text;
};

/// The first token table, with the index that describes it exactly, whose digits lie at `from` or
/// behind; `from` is moved past them. Nothing: no further one.
std::optional<KallsymsTokens> find_kallsyms_tokens(ByteSpan image, std::size_t& from);

struct KallsymsNames {
  std::size_t begin = 0;  ///< of num_syms
  std::size_t first = 0;  ///< of names
  std::size_t count = 0;
};

/// num_syms, names and markers in front of a token table.
std::optional<KallsymsNames> find_kallsyms_names(ByteSpan image, std::size_t tokens_begin);

/// Adds types and names to `into`, values still 0. False when they are no symbols: no type letter,
/// no name, or one that is too long.
bool expand_kallsyms_names(ByteSpan image, const KallsymsNames& names, const KallsymsTokens& tokens,
                           Kallsyms& into);

}  // namespace guestscope
