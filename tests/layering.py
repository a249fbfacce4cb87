#!/usr/bin/env python3
"""Fails when an #include breaks the layers: what each folder may use of the others is the table below.

    layering.py [ROOT]          checks the tree, after checking itself on samples that break each rule
"""

import pathlib
import re
import sys
import tempfile

MAY_INCLUDE = {
    "arch": {"arch"},
    "gdbproto": {"gdbproto", "arch"},
    "introspect": {"introspect", "arch"},
    "daemon": {"daemon", "introspect", "gdbproto", "arch"},
}
INCLUDE = re.compile(r'^\s*#\s*include\s*["<]([^">]+)[">]', re.M)
SOURCES = {".h", ".cc", ".inc"}


def violations(root):
    """(number of files looked at, one line for each include that breaks the table)."""
    files, found = 0, []
    for layer, allowed in MAY_INCLUDE.items():
        for path in sorted((root / layer).rglob("*")):
            if path.suffix not in SOURCES:
                continue
            files += 1
            text = path.read_text(encoding="utf-8")
            for match in INCLUDE.finditer(text):
                target = match[1]
                place = f"{path.relative_to(root)}:{text.count(chr(10), 0, match.start(1)) + 1}"
                first = target.split("/")[0]
                if ".." in target.split("/"):
                    found.append(f'{place}: "{target}": includes are written from the top of the project')
                elif first == "tests" or (first in MAY_INCLUDE and first not in allowed):
                    found.append(f'{place}: "{target}": {layer}/ may include only {", ".join(sorted(allowed))}')
    return files, found


def check_itself():
    """Each sample breaks one rule, but for the last, which breaks none."""
    samples = [
        ("arch/a.h", '#include "introspect/x.h"\n', 1),
        ("arch/a.h", "#pragma once\n\n  #  include <gdbproto/x.h>\n", 1),
        ("gdbproto/a.cc", '#include "introspect/x.h"\n', 1),
        ("introspect/a.cc", '#include "gdbproto/x.h"\n#include "daemon/x.h"\n', 2),
        ("introspect/deep/a.cc", '#include "../../daemon/x.h"\n', 1),
        ("daemon/a.cc", '#include "tests/x.h"\n', 1),
        ("daemon/a.cc", '#include "introspect/x.h"\n#include "gdbproto/x.h"\n#include <vector>\n// #include "tests/x.h"\n', 0),
    ]
    for name, text, expected in samples:
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / name
            path.parent.mkdir(parents=True)
            path.write_text(text, encoding="utf-8")
            found = violations(pathlib.Path(folder))[1]
            if len(found) != expected:
                sys.exit(f"layering.py is broken: sample {name} {text!r} gives {found}")


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parent.parent)
    check_itself()
    files, found = violations(root)
    if not files:
        sys.exit(f"no sources under {root}")
    if found:
        sys.exit("\n".join(found))
    print(f"{files} files, no include breaks the layers")


if __name__ == "__main__":
    main()
