"""What guestscope's answers hold the guest for, as the answers say it and as QEMU does."""

import http.client
import json
import time

from figures import Stops, print_table, settle, spread
from guest import Daemon

ANSWERS = 200
WARM_UP = 20
BETWEEN_SECONDS = 0.02
PATHS = ("/runqueues?tasks=0", "/runqueues", "/maps", "/maps?contents")
LIVE = ("/runqueues?consistency=live", "/maps?consistency=live")


def get(connection, path):
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer.status, answer.read()


def of_path(guest, daemon, path):
    """Many answers one after the other, none waiting for a share of the time; or why there are none."""
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=60)
    status, body = get(connection, path)
    if status != 200:
        return {"failed": f"{status} {json.loads(body).get('detail', '')}"}
    for _ in range(WARM_UP):
        get(connection, path)
    settle()
    stops, begins, took, told, consistent = Stops(guest), [], [], [], 0
    for _ in range(ANSWERS):
        begins.append(time.time())
        start = time.monotonic()
        body = get(connection, path)[1]
        took.append((time.monotonic() - start) * 1000)
        answer = json.loads(body)
        snapshot = answer["snapshot"]
        told.append(snapshot["pause_us"])
        consistent += snapshot["consistent"]
        time.sleep(BETWEEN_SECONDS)
    connection.close()
    settle()
    seen = stops.by_window(begins)
    return {"pause_us_told": spread(told), "pause_us_seen": spread([us for _, us in seen]),
            "longest_stop_us": max(stops.lengths_us(), default=0), "stops": spread([count for count, _ in seen])["median"],
            "answer_ms": spread(took), "consistent": consistent / ANSWERS, "bytes": len(body),
            "items": len(answer.get("maps", answer.get("runqueues"))), "memory": snapshot["memory"]}


def measure(guest):
    """As a user on QEMU's host starts it; and with the stub alone, as from elsewhere."""
    with Daemon(guest) as daemon:
        daemon.wait_ready()
        result = {f"`{path}`": of_path(guest, daemon, path) for path in PATHS + LIVE}
    with Daemon(guest, "--memory=stub") as daemon:
        daemon.wait_ready()
        return result | {f"`{path}`, stub alone": of_path(guest, daemon, path) for path in PATHS}


def row_of(path, row):
    if "failed" in row:
        return [path, row["failed"], *[""] * 9]
    told, seen = row["pause_us_told"], row["pause_us_seen"]
    return [path, row["memory"], told["median"], told["p99"], told["max"], seen["median"], seen["p99"], seen["max"], row["stops"],
            row["answer_ms"]["median"], row["consistent"] * 100]


def show(result):
    print_table(f"guestscope's answers, {ANSWERS} each after {WARM_UP}",
                ["answer", "memory", "µs told: median", "p99", "max", "µs by QMP: median", "p99", "max", "stops", "answer, ms", "consistent, %"],
                [row_of(path, row) for path, row in result.items()])
