// Figures: numbers of a kernel structure under our names, as tables. Internal to introspect/.
//
//   constexpr Figure kFigures[] = {{"nr_queued", "cfs.nr_queued|cfs.nr_running"}};
//   constexpr auto kFields = figure_needs(kFixed, kFigures);  // kFixed, then the figures
//   add_figures(facts, view, kFigures, std::size(kFixed));
//
// A figure whose field this kernel lacks is left out.
#pragma once

#include <array>
#include <span>

#include "introspect/facts.h"
#include "introspect/layout.h"

namespace guestscope {

enum class FigureKind : std::uint8_t { kUnsigned, kSigned, kBool };

struct Figure {
  const char* name;
  const char* path;  ///< alternatives as in FieldNeed
  FigureKind kind = FigureKind::kUnsigned;
};

template <std::size_t kFixed, std::size_t kCount>
constexpr auto figure_needs(const FieldNeed (&fixed)[kFixed], const Figure (&figures)[kCount]) {
  std::array<FieldNeed, kFixed + kCount> needs{};
  std::size_t n = 0;
  for (const FieldNeed& need : fixed) needs[n++] = need;
  for (const Figure& figure : figures) needs[n++] = {figure.path, kOptional};
  return needs;
}

FactValue figure_value(const StructView& view, std::size_t field, FigureKind kind);

/// `first`: the field of the first figure.
void add_figures(Facts& facts, const StructView& view, std::span<const Figure> figures,
                 std::size_t first);

}  // namespace guestscope
