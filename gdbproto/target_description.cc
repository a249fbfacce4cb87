#include "gdbproto/target_description.h"

#include <pugixml.hpp>

#include <charconv>
#include <optional>
#include <utility>

#include "gdbproto/limits.h"

namespace guestscope::gdb {
namespace {

std::optional<std::uint64_t> decimal(std::string_view text) {
  std::uint64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc{} || stopped != end) return std::nullopt;
  return value;
}

// pugixml reads any depth without recursion, but destroys and we visit with it: count first. Only
// an upper bound is needed, so text in comments may count too.
bool too_deep(std::string_view xml) {
  std::size_t depth = 0;
  for (std::size_t i = 0; i + 1 < xml.size(); ++i) {
    if (xml[i] == '<' && xml[i + 1] == '/') {
      if (depth > 0) --depth;
    } else if (xml[i] == '<' && xml[i + 1] != '!' && xml[i + 1] != '?') {
      ++depth;
    } else if (xml[i] == '/' && xml[i + 1] == '>' && depth > 0) {
      --depth;
    }
    if (depth > kMaxXmlDepth) return true;
  }
  return false;
}

}  // namespace

// The state of one load: what is being included just now, and the next implicit number.
class DescriptionLoader {
 public:
  explicit DescriptionLoader(const TargetDescription::Fetch& fetch) : fetch_(fetch) {}

  Result<TargetDescription> run() {
    GS_CHECK(include("target.xml"));
    return std::move(description_);
  }

 private:
  Result<void> include(const std::string& name);
  Result<void> visit(const pugi::xml_node& node);
  Result<void> add_register(const pugi::xml_node& node);

  const TargetDescription::Fetch& fetch_;
  TargetDescription description_;
  std::vector<std::string> including_;
  std::size_t documents_ = 0;
  std::uint64_t next_number_ = 0;
};

Result<TargetDescription> TargetDescription::load(const Fetch& fetch) {
  return DescriptionLoader(fetch).run();
}

const Register* TargetDescription::find(std::string_view name) const {
  const auto found = index_.find(std::string(name));
  return found == index_.end() ? nullptr : &registers_[found->second];
}

Result<void> DescriptionLoader::include(const std::string& name) {
  for (const std::string& outer : including_)
    if (outer == name)
      return fail(ErrorCode::kProtocol, "target description: {} includes itself", name);
  if (including_.size() == kMaxDocumentDepth || ++documents_ > kMaxDocuments)
    return fail(ErrorCode::kProtocol, "target description: too many documents, at {}", name);
  GS_ASSIGN(const std::string xml, fetch_(name));
  if (xml.size() > kMaxDocument || too_deep(xml))
    return fail(ErrorCode::kProtocol, "target description: {} is too large or too deep", name);
  pugi::xml_document document;
  const auto parsed = document.load_buffer(xml.data(), xml.size());
  if (!parsed)
    return fail(ErrorCode::kProtocol, "target description: {}: {} at byte {}", name,
                parsed.description(), parsed.offset);
  including_.push_back(name);
  GS_CHECK(visit(document));
  including_.pop_back();
  return {};
}

Result<void> DescriptionLoader::visit(const pugi::xml_node& node) {
  for (const pugi::xml_node& child : node.children()) {
    const std::string_view kind = child.name();
    if (kind == "xi:include") {
      GS_CHECK(include(child.attribute("href").as_string()));
    } else if (kind == "reg") {
      GS_CHECK(add_register(child));
    } else if (kind == "architecture") {
      description_.architecture_ = child.text().as_string();
    } else if (kind == "target" || kind == "feature") {
      GS_CHECK(visit(child));
    }
  }
  return {};
}

Result<void> DescriptionLoader::add_register(const pugi::xml_node& node) {
  const std::string name = node.attribute("name").as_string();
  const auto bits = decimal(node.attribute("bitsize").as_string());
  const pugi::xml_attribute given = node.attribute("regnum");
  const auto number = given ? decimal(given.as_string()) : std::optional(next_number_);
  if (name.empty() || !bits || *bits == 0 || *bits > kMaxRegisterBits || !number ||
      *number > kMaxRegisterNumber)
    return fail(ErrorCode::kProtocol, "target description: register '{}' makes no sense", name);
  if (description_.registers_.size() == kMaxRegisters)
    return fail(ErrorCode::kProtocol, "target description: more than {} registers", kMaxRegisters);
  next_number_ = *number + 1;
  description_.index_.try_emplace(name, description_.registers_.size());
  description_.registers_.push_back(Register{.name = name,
                                             .number = static_cast<std::uint32_t>(*number),
                                             .bits = static_cast<std::uint32_t>(*bits)});
  return {};
}

}  // namespace guestscope::gdb
