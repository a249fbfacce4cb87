// LinkGroup: the links of one kind, on their way to facts; and which reader serves which kind.
//
// Internal to bpf_links.h. A reader takes what the links' own structures say, then follows their
// pointers, all links together: exchanges grow with the depth of a kind, not with the number of its
// links. Threads: one.
#pragma once

#include <functional>
#include <span>

#include "introspect/bpf_links.h"
#include "introspect/limits.h"
#include "introspect/struct_batch.h"

namespace guestscope {

class LinkGroup {
 public:
  LinkGroup(ProgReadContext& context, Problems& problems, std::vector<LinkInfo*> links)
      : context_(context), problems_(problems), links_(std::move(links)) {}

  ProgReadContext& context() { return context_; }
  Problems& problems() { return problems_; }
  std::size_t size() const { return links_.size(); }
  LinkInfo& link(std::size_t i) { return *links_[i]; }

  void add(std::size_t i, std::string name, FactValue value) {
    links_[i]->facts.push_back({.name = std::move(name), .value = std::move(value)});
  }
  void problem(std::size_t i, std::string_view field, Error error);
  /// A fact that could not be read: null, and why.
  void unreadable(std::size_t i, const std::string& name, Error error);
  /// Whether one answer has room for `count` functions more. If not, "funcs" is null and says why.
  bool takes_functions(std::size_t i, std::uint64_t count);
  /// "attach_type", by the kernel's name for it.
  void add_attach_type(std::size_t i, std::uint64_t type);

  using Use = std::function<void(std::size_t, const StructView&)>;
  /// The structures that embed the links. Field 0 of `need` is the link in them.
  void containers(const StructNeed& need, const Use& use);
  /// What pointers of the links point to: one for each link; null ones are passed over. What cannot
  /// be read makes `name` null.
  void follow(const StructNeed& need, std::span<const GuestVirt> pointers, const std::string& name,
              const Use& use);
  /// A fact that is text, from a pointer to it.
  void texts(std::span<const GuestVirt> pointers, const std::string& name);
  /// "map_id" (or another fact that is the id of a map), from a pointer to the map.
  void map_ids(std::span<const GuestVirt> pointers, const std::string& name);
  /// The facts that each of several describe_…() gave; null pointers are passed over.
  void describe(std::span<const GuestVirt> pointers, std::vector<Result<Facts>> described,
                const std::string& name);

  /// "do_nanosleep" or "do_nanosleep+0x10" of an address in the kernel's image; empty for others.
  std::string symbol_at(GuestVirt address) const;

 private:
  ProgReadContext& context_;
  Problems& problems_;
  std::vector<LinkInfo*> links_;
  std::size_t functions_left_ = kMaxLinkFunctions;
};

struct LinkReader {
  std::string_view type;  ///< "raw_tracepoint"
  void (*read)(LinkGroup&);
};

// Of each source file.
std::span<const LinkReader> tracing_link_readers();
std::span<const LinkReader> event_link_readers();
std::span<const LinkReader> network_link_readers();

}  // namespace guestscope
