// FactReport: facts, and what of them could not be read. Plain values.
#pragma once

#include "introspect/facts.h"
#include "introspect/problem.h"

namespace guestscope {

struct FactReport {
  Facts facts;
  Problems problems;
};

}  // namespace guestscope
