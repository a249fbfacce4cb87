"""The least that QEMU's stub can be had for: what no client of it, whoever writes it, can do better."""

import socket
import time

from figures import Stops, print_table, settle, spread

TURNS = 200
BETWEEN_SECONDS = 0.01
READS = 32
# Physical memory that is RAM on every machine here, whatever is in it.
RAM = {"amd64": 0x1000000, "arm64": 0x41000000}
# The stub's packets hold 4096 characters, two for each byte: see PacketSize in its answer to qSupported.
LONG_READ = 2040
PIPELINED = 64
SPEED_BYTES = 32 << 20


def packet(text):
    return b"$%s#%02x" % (text.encode(), sum(text.encode()) & 0xFF)


class RawStub:
    """A connection to the stub that sends what it is told and only counts answers. Attaching stops the guest."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(20)
        # The stop that attaching is, told up to QEMU 8.0 by a packet of its own.
        self.exchange(packet("?"), 1)
        time.sleep(0.1)
        self.socket.setblocking(False)
        try:
            self.socket.recv(1 << 16)
        except BlockingIOError:
            pass
        self.socket.settimeout(20)
        self.exchange(b"+" + packet("Qqemu.PhyMemMode:1"), 1)

    def exchange(self, data, answers):
        """Sends it, and waits for the end of so many packets."""
        self.socket.sendall(data)
        left, tail = answers, b""
        # Every answer here is text without escapes, so '#' ends a packet and nothing else; two digits follow. Between packets there are
        # acknowledgements, also after the last one.
        while left > 0 or len(tail) < 2:
            received = self.socket.recv(1 << 18)
            if not received:
                raise OSError("the stub has closed the connection")
            left -= received.count(b"#")
            tail = (tail + received).rpartition(b"#")[2]

    def close(self):
        self.exchange(b"+" + packet("Qqemu.PhyMemMode:0"), 1)
        self.socket.sendall(b"+" + packet("D"))
        self.socket.recv(16)
        self.socket.close()


def stop_and_continue(guest, stub, start, reads):
    """Interrupt, reads and continue in one write, many times: for how long the guest stood still each time, in µs."""
    asked = b"".join(b"+" + packet(f"m{start + i * 8192:x},40") for i in range(reads))
    stops = Stops(guest)
    for _ in range(TURNS):
        # The interrupt's own answer is the stop reply.
        stub.exchange(b"\x03" + asked + b"+" + packet("c"), 1 + reads)
        time.sleep(BETWEEN_SECONDS)
    settle()
    return spread(stops.lengths_us())


def speed(stub, start):
    """MB/s of long reads, as many sent at once as a client would, with the guest stopped."""
    asked = b"".join(b"+" + packet(f"m{start + i * LONG_READ:x},{LONG_READ:x}") for i in range(PIPELINED))
    turns = SPEED_BYTES // (LONG_READ * PIPELINED)
    begin = time.monotonic()
    for _ in range(turns):
        stub.exchange(asked, PIPELINED)
    return turns * PIPELINED * LONG_READ / (time.monotonic() - begin) / 1e6


def measure(guest):
    start = RAM[guest.kernel.arch]
    stub = RawStub(guest.gdb)
    try:
        rate = speed(stub, start)
        stub.socket.sendall(b"+" + packet("c"))
        time.sleep(0.1)
        return {"mb_per_s": rate, "stop_continue_us": stop_and_continue(guest, stub, start, 0),
                f"stop_{READS}_reads_continue_us": stop_and_continue(guest, stub, start, READS)}
    finally:
        # Any byte stops a running guest; leaving by D lets it run again.
        stub.exchange(b"\x03", 1)
        stub.close()


def show(result):
    print_table("The ceiling: the stub, by a client that does nothing with the answers",
                ["what", "guest stopped, µs: median", "p99", "max"],
                [[what, *(result[name][each] for each in ("median", "p99", "max"))]
                 for what, name in (("interrupt and continue in one write", "stop_continue_us"),
                                    (f"the same with {READS} reads of 64 bytes", f"stop_{READS}_reads_continue_us"))])
    print(f"\nLong reads, {PIPELINED} at once: {result['mb_per_s']:.0f} MB/s.")
