"""The same answers from every kind of kernel file, and without one; and what files of no use are told."""

import pathlib
import shutil
import subprocess
import tempfile
import unittest

from checks import answers_are_right
from guest import Daemon, Guest, binary, free_port, kernel
from harness import SERIES, LiveTest

OBJCOPY = shutil.which("objcopy") or "objcopy"


class KernelFiles(LiveTest):
    @classmethod
    def setUpClass(cls):
        cls.kernel = kernel(SERIES)
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="kernel-files-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        cls.guest = Guest(cls.kernel)
        cls.addClassCleanup(cls.guest.close)
        cls.guest.wait_ready()

    def objcopy(self, name, *options, source=None):
        path = self.folder / name
        subprocess.run([OBJCOPY, *options, source or self.kernel.vmlinux, path], check=True, capture_output=True)
        return path

    def check(self, file, symbols, types):
        with Daemon(self.guest, vmlinux=str(file)) as daemon:
            daemon.wait_ready()
            answers_are_right(self, self.guest, daemon)
            status = daemon.get("/status")["kernel"]
            self.assertRegex(status["symbols_from"], symbols)
            self.assertRegex(status["types_from"], types)
            return daemon.stderr()

    def test_vmlinux(self):
        self.check(self.kernel.vmlinux, "^ELF symbols$", "^BTF$")

    def test_vmlinuz(self):
        self.check(self.kernel.vmlinuz, "^kallsyms$", "^BTF$")

    def test_no_file(self):
        self.check("", "^kallsyms in guest memory$", "^BTF in guest memory$")

    def test_dwarf_once_read_and_then_from_its_copy(self):
        file = self.objcopy("no-btf", "--rename-section=.BTF=.not_BTF")
        said = self.check(file, "^ELF symbols$", "^DWARF$")
        self.assertIn(f"types of {file}", said)
        self.assertIn("the copy made from its DWARF", self.check(file, "^ELF symbols$", "^DWARF$"))

    def test_a_debug_file_alone_and_beside_a_stripped_one(self):
        debug = self.objcopy("vmlinux.debug", "--only-keep-debug")
        self.check(debug, "^ELF symbols$", "^DWARF$")
        bare = self.objcopy("bare", "--strip-all", "--remove-section=.BTF")
        linked = self.objcopy("linked", f"--add-gnu-debuglink={debug}", source=bare)
        # Its kallsyms are inside; only the types have to come from the other file.
        self.check(linked, "^kallsyms$", f"^DWARF of {debug}$")

    def test_a_stripped_file_without_types_has_them_from_the_guest(self):
        self.check(self.objcopy("untyped", "--strip-debug", "--rename-section=.BTF=.not_BTF"), "^ELF symbols$", "^BTF in guest memory$")

    def test_files_of_no_use(self):
        whole = pathlib.Path(self.kernel.vmlinuz).read_bytes()
        files = {"empty": b"", "text": b"not a kernel\n" * 100, "random": bytes((i * 7919 + (i >> 8)) % 251 for i in range(1 << 16)),
                 "cut": whole[:len(whole) // 2], "lzo": b"\x89LZO\x00\r\n\x1a\n" + bytes(64)}
        for name, content in files.items():
            (self.folder / name).write_bytes(content)
        for name in (*files, "missing", ".", "/bin/true"):
            with self.subTest(file=name):
                path = self.folder / name
                done = subprocess.run([binary(), "--gdb", f"127.0.0.1:{free_port()}", "--vmlinux", path], capture_output=True, text=True,
                                      timeout=60, check=False)
                self.assertIn(done.returncode, (1, 2), done.stderr)
                self.assertIn(str(path), done.stderr)
                self.assertEqual(done.stderr.strip().count("\n"), 0, done.stderr)

    def test_a_kernel_of_the_other_architecture(self):
        other = kernel("arm64/6.12")
        if other is None:
            self.skipTest("kernel arm64/6.12 is not in the cache: run tests/guest/fetch_kernel.sh arm64/6.12")
        with Daemon(self.guest, vmlinux=other.vmlinuz) as daemon:
            status = daemon.wait_status(lambda now: now["accessors"]["maps"]["state"] == "failed", 30, "maps to fail")
            error = status["accessors"]["maps"]["last_error"]
            for word in ("x86_64", "aarch64", other.vmlinuz):
                self.assertIn(word, error)


if __name__ == "__main__":
    unittest.main()
