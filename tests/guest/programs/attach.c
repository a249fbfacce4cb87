// attach FILE: loads the BPF programs of an object file, attaches them as their sections say, and holds them in the
// background until it is killed. bpftool 7.1 cannot.
#include <bpf/libbpf.h>
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv) {
  struct bpf_object *object = argc == 2 ? bpf_object__open_file(argv[1], NULL) : NULL;
  if (!object || bpf_object__load(object)) return fprintf(stderr, "attach: cannot load\n"), 1;
  struct bpf_program *program;
  bpf_object__for_each_program(program, object)
    if (!bpf_program__attach(program)) return fprintf(stderr, "attach: cannot attach %s\n", bpf_program__name(program)), 1;
  // The caller goes on when all is attached.
  if (daemon(0, 0)) return 1;
  for (;;) pause();
}
