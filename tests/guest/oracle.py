"""Compares guestscope's answers with what bpftool and the kernel say inside the guest: the meaning, not the notation.

bpftool prints bit fields and 128-bit numbers as hex strings without sign, pointers as numbers, text that lacks a
terminator as numbers, anonymous members under an empty name, and a data section as a list of single variables. Each
comparison here undoes one of these and leaves nothing out.
"""

import re

# For enumerators that bpftool prints as numbers: those in bit fields. From programs/types.h.
ENUMERATORS = {"COLOR_RED": 0, "COLOR_GREEN": 5, "COLOR_BLUE": -3}
# For those that bpftool takes for signed numbers, and so does not find: in one byte, above 127. From programs/typed.h.
SMALL_ENUMERATORS = {"TINY_B": -56}
FUNCTION = re.compile(r"[A-Za-z_][\w.]*(\+0x[1-9a-f][0-9a-f]*)?")
# Maps for which bpftool prints no JSON: their values are floating-point numbers.
NOT_JSON = {"t_real", "y_numbers", "y_float", ".data.ratio"}


def is_live(name):
    """Whether a map changes while the guest runs."""
    return name.startswith("live_") or name == "progs_bp.bss"


class Pairs(list):
    """A JSON object as its (name, value) pairs."""

    def get(self, name, default=None):
        return next((value for key, value in self if key == name), default)

    def names(self):
        return [name for name, _ in self]


def hex_bytes(array):
    """bpftool's ["0x01", …] as "01…"."""
    return "".join(f"{int(byte, 16):02x}" for byte in array)


def flatten(pairs):
    """An object's members, those of anonymous members in their place."""
    flat = []
    for name, value in pairs:
        flat += flatten(value) if name == "" and isinstance(value, Pairs) else [(name, value)]
    return flat


def char_array(value):
    """An array of chars, as text or as numbers, to bytes; None when it is something else."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if isinstance(value, list) and not isinstance(value, Pairs) and all(type(item) is int and -128 <= item <= 255 for item in value):
        return bytes(item % 256 for item in value)
    return None


def same_bits(ours, theirs):
    """A bit field or a 128-bit number: theirs is the unsigned bits in hex."""
    bits = int(theirs, 16)
    if isinstance(ours, str):
        if ours in ENUMERATORS:
            ours = ENUMERATORS[ours]
        elif re.fullmatch("-?[0-9]+", ours):
            ours = int(ours)  # 128 bits
        else:
            return False
    ours = int(ours)  # bool
    # A negative number has its top bit set, so the width can be told from theirs.
    return ours == bits or (ours < 0 and ours + (1 << bits.bit_length()) == bits)


def differences(ours, theirs, at=""):
    """What differs in meaning between our typed JSON and bpftool's "formatted" one: a list of lines."""
    if isinstance(theirs, Pairs):
        if not isinstance(ours, dict):
            return [f"{at}: {ours!r} for an object"]
        members = flatten(theirs)
        if list(ours) != [name for name, _ in members]:
            return [f"{at}: members {list(ours)}, expected {[name for name, _ in members]}"]
        return [line for name, value in members for line in differences(ours[name], value, f"{at}.{name}")]
    if isinstance(theirs, str) and re.fullmatch("0x[0-9a-f]+", theirs) and same_bits(ours, theirs):
        return []
    if type(theirs) is int and SMALL_ENUMERATORS.get(ours if isinstance(ours, str) else None) == theirs:
        return []
    if isinstance(theirs, str) != isinstance(ours, str) or isinstance(theirs, list):
        # A pointer: ours is hex, theirs a number.
        if type(theirs) is int and isinstance(ours, str) and re.fullmatch("0x[0-9a-f]+", ours):
            return [] if int(ours, 16) == theirs else [f"{at}: pointer {ours}, expected {theirs:#x}"]
        # A function of the kernel's, by name: test_map_values has kallsyms to compare it with.
        if type(theirs) is int and theirs >= 1 << 63 and isinstance(ours, str) and FUNCTION.fullmatch(ours):
            return []
        mine, other = char_array(ours), char_array(theirs)
        if mine is not None and other is not None and (isinstance(ours, str) or isinstance(theirs, str)):
            # As text the trailing zeros are gone.
            return [] if mine.rstrip(b"\0") == other.rstrip(b"\0") else [f"{at}: {mine!r}, expected {other!r}"]
        if isinstance(theirs, list) and isinstance(ours, list):
            if len(ours) != len(theirs):
                return [f"{at}: {len(ours)} elements, expected {len(theirs)}"]
            return [line for i, pair in enumerate(zip(ours, theirs)) for line in differences(*pair, f"{at}[{i}]")]
        return [f"{at}: {ours!r}, expected {theirs!r}"]
    if type(ours) is not type(theirs) or ours != theirs:
        return [f"{at}: {ours!r}, expected {theirs!r}"]
    return []


def section_variables(formatted):
    """bpftool's {".data": [{"a": 1}, {"b": 2}]} as one object; None when it is no data section."""
    value = formatted.get("value")
    if formatted.names() == ["value"] and isinstance(value, Pairs) and len(value) == 1 and isinstance(value[0][1], list):
        return Pairs(pair for variable in value[0][1] for pair in variable)
    return None


def entry_differences(ours, theirs, at):
    """One entry of a map: raw bytes exactly, typed values in meaning."""
    found = []

    def same(name, mine, expected):
        if mine != expected:
            found.append(f"{at}.{name}: {mine!r}, expected {expected!r}")

    same("key_hex", ours.get("key_hex"), hex_bytes(theirs.get("key")))
    formatted = theirs.get("formatted")
    if theirs.get("values") is None:
        same("value_hex", ours.get("value_hex"), hex_bytes(theirs.get("value")))
        if formatted is None:
            same("value", ours.get("value"), hex_bytes(theirs.get("value")))
        else:
            section = section_variables(formatted)
            found += differences(ours.get("value"), formatted.get("value") if section is None else section, f"{at}.value")
            if section is None:
                found += differences(ours.get("key"), formatted.get("key"), f"{at}.key")
        return found
    expected = theirs.get("values")
    typed = formatted.get("values") if formatted else [None] * len(expected)
    same("cpus", [value["cpu"] for value in ours.get("values", [])], [value.get("cpu") for value in expected])
    for mine, raw, value in zip(ours.get("values", []), expected, typed):
        place = f"{at}.values[{raw.get('cpu')}]"
        if mine.get("value_hex") != hex_bytes(raw.get("value")):
            found.append(f"{place}.value_hex: {mine.get('value_hex')!r}, expected {hex_bytes(raw.get('value'))!r}")
        if value is None:
            same(f"values[{raw.get('cpu')}].value", mine.get("value"), hex_bytes(raw.get("value")))
        else:
            found += differences(mine.get("value"), value.get("value"), f"{place}.value")
    if formatted:
        found += differences(ours.get("key"), formatted.get("key"), f"{at}.key")
    return found


def parse_sched_debug(text):
    """/sys/kernel/debug/sched/debug: {cpu: {"rq": {…}, "cfs": {…of the root}, "rt": {…}, "dl": {…}, "tasks": [(comm, pid, prio)]}}.

    Figures are strings as printed; times are milliseconds with six decimals.
    """
    cpus, current, section = {}, None, None
    for line in text.splitlines():
        if match := re.match(r"cpu#(\d+)", line):
            current = cpus.setdefault(int(match[1]), {"rq": {}, "cfs": {}, "rt": {}, "dl": {}, "tasks": []})
            section = current["rq"]
        elif match := re.match(r"(cfs|rt|dl)_rq\[\d+\]:(.*)", line):
            # Groups have queues of their own; the root's is the CPU's.
            section = current[match[1]] if match[2].strip() in ("", "/") else {}
        elif line.startswith("runnable tasks:"):
            section = None
        elif (match := re.match(r"\s+\.(\S+)\s*:\s*(\S+)", line)) and section is not None:
            section[match[1]] = match[2]
        # " R  busy-0   145  …", ">R …" the current one; before 6.12 the same with fewer columns. prio is the first integer after switches.
        elif current is not None and (match := re.match(r"[ >](\S)\s+(\S.{0,15}?)\s+(\d+)\s+(\d+\.\d+.*)", line)):
            current["tasks"].append((match[1], match[2], int(match[3])))
    return cpus


def nanoseconds(figure):
    """"9588.685286" as printed, in ms, to ns."""
    whole, _, fraction = figure.partition(".")
    return int(whole) * 1_000_000 + int((fraction + "000000")[:6])


def parse_schedstat(text):
    """/proc/schedstat: {cpu: {"counts": […of its line], "domains": [{"span": "0-3", "counts": […]}]}}."""
    cpus, current = {}, None
    for line in text.splitlines():
        words = line.split()
        if match := re.fullmatch(r"cpu(\d+)", words[0] if words else ""):
            current = cpus[int(match[1])] = {"counts": [int(word) for word in words[1:]], "domains": []}
        elif words and words[0].startswith("domain"):
            # A name stands before the mask since version 17.
            mask = 1 if re.fullmatch("[0-9a-f]+(,[0-9a-f]+)*", words[1]) else 2
            current["domains"].append({"span": mask_list(words[mask]), "counts": [int(word) for word in words[mask + 1:]]})
    return cpus


def mask_list(mask):
    """"f,00000001" as "0,32-35"."""
    bits, spans = int(mask.replace(",", ""), 16), []
    for cpu in range(bits.bit_length()):
        if bits >> cpu & 1:
            if spans and spans[-1][1] == cpu - 1:
                spans[-1][1] = cpu
            else:
                spans.append([cpu, cpu])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)


def parse_proc_stat(text):
    """/proc/stat: {"ctxt": …, "processes": …, "intr": the total, "cpus": {cpu: {"user": ticks, …}}}."""
    names = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal", "guest", "guest_nice")
    stat = {"cpus": {}}
    for line in text.splitlines():
        words = line.split()
        if match := re.fullmatch(r"cpu(\d+)", words[0]):
            stat["cpus"][int(match[1])] = dict(zip(names, (int(word) for word in words[1:])))
        elif words[0] in ("ctxt", "processes", "intr"):
            stat[words[0]] = int(words[1])
    return stat


def domain_files(text):
    """Lines "…/cpu0/domain1/FILE CONTENT": {(cpu, level): {FILE: CONTENT}}."""
    found = {}
    for line in text.splitlines():
        if match := re.match(r"\S*/cpu(\d+)/domain(\d+)/(\S+) ?(.*)", line):
            found.setdefault((int(match[1]), int(match[2])), {})[match[3]] = match[4].strip()
    return found
