#include "introspect/kallsyms.h"

#include <algorithm>
#include <utility>

#include "introspect/kallsyms_names.h"
#include "introspect/kallsyms_values.h"
#include "introspect/limits.h"

namespace guestscope {
namespace {

// Without CONFIG_KALLSYMS_ALL only what lies in .text and .init.text is listed. The markers of
// their ends count as what follows.
bool is_data(const Kallsyms& found, const KallsymsSymbol& symbol) {
  constexpr std::string_view kData = "BbDd";
  const std::string_view name = found.name_of(symbol);
  return kData.find(symbol.type) != std::string_view::npos && name != "_etext" &&
         name != "_einittext";
}

Result<Kallsyms> read_tables(ByteSpan image, std::uint64_t address, Machine machine,
                             const KallsymsTokens& tokens) {
  const auto names = find_kallsyms_names(image, tokens.begin);
  if (!names)
    return fail(ErrorCode::kNotFound, "kallsyms: tokens at {:#x}, but no names in front of them",
                tokens.begin);
  Kallsyms found;
  if (!expand_kallsyms_names(image, *names, tokens, found))
    return fail(ErrorCode::kCorrupt, "kallsyms: the {} names at {:#x} are no symbols' names",
                names->count, names->first);
  const KallsymsPlace place{.image = image,
                            .address = address,
                            .machine = machine,
                            .num_syms = names->begin,
                            .tokens_end = tokens.end};
  GS_CHECK(read_kallsyms_values(place, found));
  found.has_data = std::ranges::any_of(
      found.symbols, [&](const KallsymsSymbol& symbol) { return is_data(found, symbol); });
  return found;
}

}  // namespace

Result<Kallsyms> find_kallsyms(ByteSpan image, std::uint64_t address, Machine machine) {
  std::size_t from = 0;
  Error why{.code = ErrorCode::kNotFound, .message = "kallsyms: no token table"};
  for (std::size_t tried = 0; tried < kMaxKallsymsCandidates; ++tried) {
    const auto tokens = find_kallsyms_tokens(image, from);
    if (!tokens) break;
    auto found = read_tables(image, address, machine, *tokens);
    if (found) return found;
    // The best of several reasons: what is there but damaged, before what is not there.
    if (tried == 0 || found.error().code == ErrorCode::kCorrupt) why = std::move(found).error();
  }
  return std::unexpected(std::move(why));
}

}  // namespace guestscope
