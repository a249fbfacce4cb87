#include "introspect/figures.h"

namespace guestscope {

FactValue figure_value(const StructView& view, std::size_t field, FigureKind kind) {
  switch (kind) {
    case FigureKind::kUnsigned: return view.u64(field);
    case FigureKind::kSigned: return view.s64(field);
    case FigureKind::kBool: return view.u64(field) != 0;
  }
  return {};
}

void add_figures(Facts& facts, const StructView& view, std::span<const Figure> figures,
                 std::size_t first) {
  for (std::size_t i = 0; i < figures.size(); ++i)
    if (view.has(first + i))
      facts.push_back(
          {.name = figures[i].name, .value = figure_value(view, first + i, figures[i].kind)});
}

}  // namespace guestscope
