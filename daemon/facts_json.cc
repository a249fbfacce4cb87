#include "daemon/facts_json.h"

namespace guestscope {

namespace {

struct ToJson {
  Json operator()(std::monostate) const { return nullptr; }
  Json operator()(bool value) const { return value; }
  Json operator()(std::uint64_t value) const { return value; }
  Json operator()(std::int64_t value) const { return value; }
  Json operator()(double value) const { return value; }
  Json operator()(const std::string& value) const { return value; }
  Json operator()(GuestVirt value) const { return hex_address(value.value()); }
  Json operator()(const FactList& list) const {
    Json json = Json::array();
    for (const FactValue& value : list) json.push_back(fact_json(value));
    return json;
  }
  Json operator()(const Facts& facts) const { return facts_json(facts); }
};

}  // namespace

Json fact_json(const FactValue& value) { return std::visit(ToJson{}, value.get()); }

Json facts_json(const Facts& facts) {
  Json json = Json::object();
  for (const Fact& fact : facts) json[fact.name] = fact_json(fact.value);
  return json;
}

void append_facts(std::string& text, const Facts& facts) {
  for (const Fact& fact : facts) {
    if (!text.empty() && text.back() != '{') text += ',';
    append_string(text, fact.name);
    text += ':';
    text += dump_json(fact_json(fact.value));
  }
}

}  // namespace guestscope
