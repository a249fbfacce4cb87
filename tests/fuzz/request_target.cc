// Input: what stands between GET and HTTP/1.1.
#include "daemon/request.h"
#include "tests/fuzz/fuzz_targets.h"

namespace guestscope::fuzz {

void run_request(ByteSpan input) {
  const std::string_view target = as_text(input);
  const auto request = Request::parse(target);
  if (!request) {
    require(request.error().code == ErrorCode::kInvalidArgument, "only the request can be wrong");
    return;
  }
  require(!request->path.empty(), "a path has a segment");
  std::size_t size = 0;
  for (const std::string& segment : request->path) size += segment.size() + 1;
  for (const auto& [name, value] : request->query) {
    size += name.size() + value.size();
    static_cast<void>(request->flag(name));
  }
  require(size <= target.size() + 1, "decoding makes nothing longer");
  static_cast<void>(request->allow_only({"pretty", "raw"}));
}

std::vector<Bytes> request_seeds() {
  std::vector<Bytes> seeds;
  for (const std::string_view text :
       {"/maps/a%2Fb?raw&name=%C3%A4&type=array#x", "/guests/default/progs/9?pretty=true", "/",
        "/?a=b=c&&%00=%ff", "/maps?raw&raw", "/%zz", "maps"})
    seeds.push_back(from_text(text));
  return seeds;
}

}  // namespace guestscope::fuzz
