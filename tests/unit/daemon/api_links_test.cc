#include "tests/support/mini_kernel/links.h"
#include "tests/unit/daemon/live_guest.h"

namespace guestscope {
namespace {

using test::LiveGuest;
using test::MiniGuest;

std::unique_ptr<MiniGuest> with_links() {
  auto made = std::unique_ptr<MiniGuest>(
      new MiniGuest(MiniGuest::booted(test::load_model("links.vmlinux"))));
  MiniGuest& guest = *made;
  const char data[] = "BTF bytes\0\xff";
  mini::btf types{};
  types.id = 2;
  types.data = guest.put(data);
  types.data_size = sizeof data;
  types.name[0] = 'm';
  mini::bpf_prog_aux aux{};
  aux.refcnt.counter = 1;
  aux.id = 5;
  aux.name[0] = 'p';
  mini::bpf_prog prog{};
  prog.type = 26;
  prog.jited = 1;
  prog.jited_len = sizeof data;
  prog.bpf_func = types.data;
  prog.len = 1;
  prog.insns_start = 0x95;
  prog.aux = guest.put(aux);
  const std::uint64_t prog_at = guest.put(prog);
  mini_links::bpf_xdp_link link{};
  link.link.refcnt.counter = 1;
  link.link.type = 6;
  link.link.prog = prog_at;
  const std::uint64_t link_at = guest.put(link) + offsetof(mini_links::bpf_xdp_link, link);
  prog.jited = 0;
  guest.put_idr("prog_idr", {{5, prog_at}, {6, guest.put(prog)}});
  guest.put_idr("link_idr", {{3, link_at}});
  guest.put_idr("btf_idr", {{2, guest.put(types)}});
  return made;
}

struct Linked : LiveGuest {
  Linked() : LiveGuest(with_links()) { wait_until_ready(); }

  std::string problem(std::string_view target, int status) {
    const Answer answer = api.answer(target);
    CAPTURE(answer.body);
    CHECK(answer.status == status);
    return Json::parse(answer.body)["code"];
  }
};

TEST_CASE_FIXTURE(Linked, "links are listed, filtered, and found by their ids") {
  const Json all = get("/links");
  REQUIRE(all["links"].size() == 1);
  CHECK(all["links"][0]["id"] == 3);
  CHECK(all["links"][0]["type"] == "xdp");
  CHECK(all["links"][0]["prog_id"] == 5);
  CHECK(all["links"][0]["ifindex"] == 0);
  CHECK(get("/links?type=xdp&prog_id=5")["links"].size() == 1);
  CHECK(get("/links?type=tcx")["links"].empty());
  CHECK(get("/links?prog_id=6")["links"].empty());
  CHECK(get("/links/3?pretty")["type"] == "xdp");
  CHECK(problem("/links/4", 404) == "not_found");
  CHECK(problem("/links/xdp", 400) == "invalid_request");
  CHECK(problem("/links?prog_id=x", 400) == "invalid_request");
  CHECK(problem("/links/3?type=xdp", 400) == "invalid_request");
}

TEST_CASE_FIXTURE(Linked, "BTF objects are listed, and one has its bytes") {
  CHECK(get("/btf")["btf"][0]["id"] == 2);
  CHECK(get("/btf/m")["size"] == 12);
  const Answer raw = api.answer("/btf/2/raw");
  CHECK(raw.status == 200);
  CHECK(raw.content_type == "application/octet-stream");
  CHECK(raw.body == std::string_view("BTF bytes\0\xff\0", 12));
  CHECK(problem("/btf/3/raw", 404) == "not_found");
  CHECK(problem("/btf/2/text", 404) == "not_found");
  CHECK(problem("/btf/2/raw?pretty", 400) == "invalid_request");
}

TEST_CASE_FIXTURE(Linked, "the code of a program is its bytes") {
  CHECK(problem("/progs/p/xlated", 409) == "ambiguous_name");
  const Answer own = api.answer("/progs/5/xlated");
  CHECK(own.content_type == "application/octet-stream");
  CHECK(own.body == std::string_view("\x95\0\0\0\0\0\0\0", 8));
  CHECK(api.answer("/progs/5/jited").body == std::string_view("BTF bytes\0\xff\0", 12));
  CHECK(problem("/progs/6/jited", 404) == "not_found");
  CHECK(problem("/progs/7/jited", 404) == "not_found");
  CHECK(problem("/progs/5/asm", 404) == "not_found");
  CHECK(problem("/progs/5/jited?raw", 400) == "invalid_request");
}

}  // namespace
}  // namespace guestscope
