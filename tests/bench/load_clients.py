"""Many clients in one thread: python3 load_clients.py PORT CLIENTS SECONDS PATH. Prints one JSON object.

Each asks, waits for the answer and asks again, on a connection that it keeps as long as the server does. Sockets and epoll instead of
http.client, which would take a processor of its own. A connection that the server closed between two answers is opened again and the
request sent once more, as every HTTP client does: counted, but no error.
"""

import json
import select
import socket
import sys
import time

ANSWER_SECONDS = 30


class Client:
    """One connection and its one request."""

    def __init__(self, port, request):
        self.port, self.request = port, request
        self.reconnects = -1
        self.connect()

    def connect(self):
        self.reconnects += 1
        self.socket = socket.create_connection(("127.0.0.1", self.port), timeout=5)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.asked_on_this = 0

    def ask(self, again=False):
        if not again:
            self.since = time.monotonic()
        self.received, self.end = b"", None
        self.asked_on_this += 1
        self.socket.sendall(self.request)

    def receive(self):
        """None while there is more to come; then the status, or how the connection ended."""
        try:
            data = self.socket.recv(1 << 18)
        except OSError as error:
            return error.strerror
        if not data:
            return "connection closed"
        self.received += data
        if self.end is None and (head := self.received.find(b"\r\n\r\n")) >= 0:
            headers = self.received[:head].lower()
            at = headers.find(b"\r\ncontent-length:")
            # An answer in pieces, which ends with an empty one, has no length.
            self.end = head + 4 + int(headers[at + 17:].split(b"\r\n", 1)[0]) if at >= 0 else -1
        if self.end is None or (self.end >= 0 and len(self.received) < self.end):
            return None
        if self.end == -1 and not self.received.endswith(b"\r\n0\r\n\r\n"):
            return None
        return int(self.received[9:12])

    def closing(self):
        return b"\r\nconnection: close" in self.received[:self.received.find(b"\r\n\r\n")].lower()


def again(client, poll, clients):
    """After a lost connection."""
    poll.unregister(client.socket)
    del clients[client.socket.fileno()]
    client.socket.close()
    client.connect()
    clients[client.socket.fileno()] = client
    poll.register(client.socket, select.EPOLLIN)


def run(port, count, seconds, path):
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
    poll, clients, took, errors, lost = select.epoll(), {}, [], {}, 0
    everyone = [Client(port, request) for _ in range(count)]
    for client in everyone:
        clients[client.socket.fileno()] = client
        poll.register(client.socket, select.EPOLLIN)
        client.ask()
    start = time.monotonic()
    cpu = time.process_time()
    while (now := time.monotonic()) < start + seconds:
        for number, _ in poll.poll(0.5):
            client = clients[number]
            status = client.receive()
            if status is None:
                continue
            if isinstance(status, str):
                # Without a byte of an answer, after answers before: its time was up when we asked.
                if client.received or client.asked_on_this < 2:
                    what = status + (" within an answer" if client.received else " without an answer")
                    errors[what] = errors.get(what, 0) + 1
                lost += 1
                again(client, poll, clients)
                client.ask(again=True)
                continue
            took.append(time.monotonic() - client.since)
            if status != 200:
                errors[str(status)] = errors.get(str(status), 0) + 1
            if client.closing():
                again(client, poll, clients)
            client.ask()
    waiting = [now - client.since for client in everyone]
    late = sum(each > ANSWER_SECONDS for each in waiting)
    if late:
        errors[f"no answer in {ANSWER_SECONDS} s"] = late
    return took, errors, lost, sum(client.reconnects for client in everyone), now - start, time.process_time() - cpu, max(waiting)


def main():
    port, count, seconds = (int(word) for word in sys.argv[1:4])
    took, errors, lost, reconnects, lasted, cpu, waiting = run(port, count, seconds, sys.argv[4])
    took.sort()
    at = lambda share: took[min(len(took) - 1, int(share * len(took)))] * 1000 if took else None  # noqa: E731
    print(json.dumps({"answers": len(took), "errors": errors, "reconnects": reconnects, "asked_again": lost, "seconds": lasted,
                      "per_second": len(took) / lasted, "ms": {"median": at(0.5), "p99": at(0.99), "max": at(1.0)},
                      "longest_still_waiting_ms": waiting * 1000, "clients_cpu": cpu / lasted}))


main()
