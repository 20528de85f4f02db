"""Serves the page with its CSP and imitates the master's side of the contract, for tests and for work on the page.

    python3 web/test/mock.py [--port 8700] [--workers 24] [--tasks 600] [--hostile] [--fast-log]

The token is `letmein`. POST /mock/silent?on=1 makes it silent, ?on=0 ends that; POST /mock/cut breaks all streams.
It never talks to a real fleet."""

import argparse
import json
import mimetypes
import pathlib
import queue
import random
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from fleet import HOSTILE, Fleet, now_ms

ROOT = pathlib.Path(__file__).resolve().parent.parent
CSP = ("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
       "base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
TOKEN = "Bearer letmein"
TYPES = {".mjs": "text/javascript", ".js": "text/javascript"}


class Broadcast:
    """One loop moves the fleet on and tells all pages, four times a second."""

    def __init__(self, fleet):
        self.fleet, self.pages, self.silent, self.cut, self.number = fleet, set(), False, 0, 0
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        beat = 0
        while True:
            time.sleep(0.25)
            self.fleet.step()
            change = self.fleet.changes()
            if self.silent:
                continue
            self.number += 1
            self.tell(f"id: {self.number}\nevent: change\ndata: {json.dumps(change)}\n\n")
            if time.time() - beat > 2:
                beat = time.time()
                self.tell(f'event: beat\ndata: {{"now_ms": {now_ms()}}}\n\n')

    def tell(self, text):
        for page in list(self.pages):
            page.put(text.encode())


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        path, query = urllib.parse.unquote(url.path), dict(urllib.parse.parse_qsl(url.query))
        parts = [urllib.parse.unquote(part) for part in url.path.split("/")[1:]]
        fleet = self.server.fleet
        if path == "/events":
            return self.events()
        if path == "/api/self":
            return self.json({"may_change": self.headers.get("authorization") == TOKEN})
        if path == "/api/modules":
            return self.json(modules(self.server.hostile))
        if path == "/api/tasks":
            return self.tasks(query)
        if parts[:2] == ["api", "task"] and len(parts) in (3, 4):
            task = fleet.tasks.get(parts[2])
            if task is None:
                return self.fail(404, "No task has this id.", "Its record may have expired.")
            if len(parts) == 4:
                return self.log(task)
            with fleet.lock:
                return self.json({"task": task.shown(), "record": task.record(), "timeline": task.timeline})
        return self.file(path)

    def do_POST(self):
        url = urllib.parse.urlsplit(self.path)
        parts = [urllib.parse.unquote(part) for part in url.path.split("/")[1:]]
        server, fleet = self.server, self.server.fleet
        if parts[0] == "mock":
            if parts[1] == "silent":
                server.broadcast.silent = url.query == "on=1"
            if parts[1] == "cut":
                server.broadcast.cut += 1
            return self.empty()
        if self.headers.get("authorization") != TOKEN:
            return self.fail(403, "This token may not change anything.", "Ask the operator for one that may.")
        with fleet.lock:
            if parts[:2] == ["api", "task"] and parts[3:] == ["cancel"] and parts[2] in fleet.tasks:
                task = fleet.tasks[parts[2]]
                if task.ended_at is not None:
                    return self.fail(409, "The task has already ended.", None)
                if task in fleet.queues.get(task.group, []):
                    fleet.queues[task.group].remove(task)
                fleet.finish(task, now_ms(), "cancelled", "cancelled")
                return self.empty()
            if parts[:2] == ["api", "worker"] and len(parts) == 4 and parts[2] in fleet.workers:
                standing = {"cordon": "cordoned", "drain": "draining", "uncordon": "live"}[parts[3]]
                fleet.workers[parts[2]].standing = standing
                fleet.dirty_workers.add(parts[2])
                return self.empty()
        return self.fail(404, "There is no such task or worker.", None)

    def events(self):
        self.stream()
        page, broadcast = queue.Queue(), self.server.broadcast
        cut = broadcast.cut
        while broadcast.silent:
            time.sleep(0.1)
        page.put(f"id: 0\nevent: snapshot\ndata: {json.dumps(self.server.fleet.snapshot())}\n\n".encode())
        broadcast.pages.add(page)
        try:
            while broadcast.cut == cut:
                try:
                    self.wfile.write(page.get(timeout=0.5))
                except queue.Empty:
                    pass
        except OSError:
            pass
        finally:
            broadcast.pages.discard(page)
            self.close_connection = True

    def log(self, task):
        self.stream()
        fast, rng, written = self.server.fast_log, random.Random(task.id), 0
        words = ["decoded segment", "wrote frame", "checkpoint stored", "slow read of 81 ms from", "going on from"]
        try:
            for event in list(task.timeline):
                if event["what"] == "checkpoint" or "dispatched" in event["what"]:
                    for i in range(3):
                        warn = rng.random() < 0.2
                        text = f"{rng.choice(words)} {rng.randrange(1 << 20)}" if not warn else \
                            "warning: the source has no index; reading it as a whole"
                        self.line("stderr" if warn else "log", event["attempt"], text, event["at_ms"] + i * 130)
            if self.server.hostile:
                self.line("stderr", task.attempt, HOSTILE + "<script>alert(2)</script>" + "x" * 10_000, now_ms())
            while task.ended_at is None or written < fast:
                batch = 500 if fast else 1
                for _ in range(batch):
                    self.line(rng.choice(["log", "log", "stderr"]), task.attempt, f"{rng.choice(words)} {written}", now_ms())
                    written += 1
                time.sleep(0.05 if fast else 0.4)
            self.wfile.write(b"event: end\ndata: {}\n\n")
        except OSError:
            pass
        self.close_connection = True

    def line(self, source, attempt, text, at):
        data = json.dumps({"source": source, "attempt": attempt, "text": text, "at_ms": at})
        self.wfile.write(f"event: line\ndata: {data}\n\n".encode())

    def tasks(self, query):
        limit, before = min(int(query.get("limit", 50)), 1000), query.get("before")
        with self.server.fleet.lock:
            rows = [task for task in self.server.fleet.newest() if matches(task, query)]
        if before:
            at, name = before.split("-", 1)
            rows = [task for task in rows if (-task.at, task.id) > (-int(at), name)]
        page = rows[:limit]
        more = f"{page[-1].at}-{page[-1].id}" if len(rows) > limit else None
        self.json({"tasks": [task.shown() for task in page], "more": more})

    def file(self, path):
        file = (ROOT / (path.lstrip("/") or "index.html")).resolve()
        if not file.is_relative_to(ROOT) or not file.is_file():
            return self.fail(404, "There is no such page.", None)
        kind = TYPES.get(file.suffix) or mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        return self.send(200, kind + ("; charset=utf-8" if kind.startswith("text/") else ""), file.read_bytes())

    def json(self, value, status=200):
        self.send(status, "application/json", json.dumps(value).encode())

    def fail(self, status, error, hint):
        self.json({"error": error, "hint": hint}, status)

    def empty(self):
        self.send_response(204)
        self.end_headers()

    def send(self, status, kind, body):
        self.send_response(status)
        for name, value in [("content-type", kind), ("content-length", len(body)), ("content-security-policy", CSP),
                            ("x-content-type-options", "nosniff"), ("cache-control", "no-cache")]:
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)

    def stream(self):
        self.send_response(200)
        for name, value in [("content-type", "text/event-stream"), ("cache-control", "no-store"),
                            ("connection", "close")]:
            self.send_header(name, value)
        self.end_headers()


def matches(task, query):
    state, group = query.get("state"), query.get("group")
    word = (task.verdict or {"running": "dispatched"}.get(task.state, task.state)).replace(" ", "_")
    return (not state or word == state) and (not group or task.group == group)


def modules(hostile):
    rng, at = random.Random(3), now_ms()
    key = "untrusted comment: x\nRUQBAgMEBQYHCAAAAAAAAAAA\ntrusted comment: release\nAAAA\n"

    def version(name, age):
        return {"version": name, "digest": "sha256:" + "".join(rng.choice("0123456789abcdef") for _ in range(64)),
                "size": rng.randrange(40_000, 18_000_000), "kind": rng.choice(["component", "component", "module"]),
                "pushed_at": at - age, **({"signature": key} if rng.random() < 0.6 else {})}

    names = {"fetch": 4, "heart": 1, "inventory": 2, "primes": 1, "report": 3, "resize": 3, "transcode": 2}
    found = [{"name": name, "versions": [version(f"{i + 1}.0", (count - i) * 86_400_000 * 3) for i in range(count)]}
             for name, count in names.items()]
    if hostile:
        found.append({"name": HOSTILE, "versions": [version("n" * 10_000, 5)]})
    return {"modules": found}


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--port", type=int, default=8700)
    options.add_argument("--workers", type=int, default=24)
    options.add_argument("--tasks", type=int, default=600)
    options.add_argument("--hostile", action="store_true", help="hostile names, labels, reasons and log lines")
    options.add_argument("--fast-log", type=int, default=0, metavar="LINES", help="write so many lines quickly")
    chosen = options.parse_args()
    server = ThreadingHTTPServer(("127.0.0.1", chosen.port), Handler)
    server.daemon_threads = True
    server.hostile, server.fast_log = chosen.hostile, chosen.fast_log
    server.fleet = Fleet(chosen.workers, chosen.tasks, chosen.hostile)
    server.broadcast = Broadcast(server.fleet)
    print(f"http://127.0.0.1:{server.server_port}/", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
