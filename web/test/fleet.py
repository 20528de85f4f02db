"""An imitated fleet for the page's tests: workers that renew, queues, failovers, logs. It never runs anything, and
it never serves anything: mock.py does."""

import math
import random
import threading
import time

LEASE_MS = 4_000
RENEW_MS = 1_000
# A master declares a worker lost after this much silence.
LOST_AFTER_MS = 4_500

MODULES = ["resize:3", "transcode:1.4", "heart:1", "primes:1", "inventory:2", "fetch:7", "report:2026.11"]
GROUPS = ["edge-eu", "edge-us", "edge-ap", "batch"]
ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
HOSTILE = "<img src=x onerror=alert(1)>\x1b]0;owned\x07\x1b[31m\u202egnp.exe"
LONG = "n" * 10_000


def now_ms():
    return int(time.time() * 1000)


class Task:
    """A task with its timeline, as the page sees them."""

    def __init__(self, fleet, group, module, at, length_ms):
        self.id = fleet.identifier(26)
        self.group, self.module, self.at, self.length_ms = group, module, at, length_ms
        self.state, self.verdict, self.worker, self.ended_at = "queued", None, None, None
        self.why = f"every worker of group {group} has as many attempts as slots"
        self.attempt, self.ends_at, self.attempts, self.history = None, None, 0, []
        self.timeline = []
        self.note(at, "submitted", None, "")

    def note(self, at, what, worker, reason):
        self.timeline.append({"at_ms": at, "what": what, "worker": worker,
                              "attempt": self.attempt if worker else None, "reason": reason})

    def dispatch(self, fleet, worker, at):
        self.attempts += 1
        self.attempt = fleet.identifier(13)
        self.state, self.worker = "running", worker.name
        self.why = f"given to worker {worker.name}"
        self.note(at, "redispatched" if self.attempts > 1 else "dispatched", worker.name, "")
        self.started_at = at
        self.next_checkpoint = at + 1_500
        self.ends_at = at + self.length_ms
        worker.tasks[self.id] = self

    def lose(self, at):
        worker = self.worker
        self.note(at, "lost", worker, f"worker {worker} was lost: no renewal for {LOST_AFTER_MS} ms")
        self.history.append({"id": self.attempt, "number": self.attempts, "worker": worker, "lost": True,
                             "ended_at": at, "reason": "lost with its worker"})
        self.state, self.worker, self.ends_at = "queued", None, None
        self.why = f"worker {worker} was lost; it waits for another one"

    def end(self, at, verdict, reason):
        word = verdict if verdict in ("completed", "cancelled") else "failed"
        self.note(at, word, self.worker, reason)
        self.state, self.verdict, self.ended_at, self.why = "done", verdict, at, reason

    def shown(self):
        return {"id": self.id, "state": self.state, "verdict": self.verdict, "group": self.group,
                "module": self.module, "worker": self.worker, "submitted_at": self.at, "ended_at": self.ended_at,
                "attempts": self.attempts, "why": self.why}

    def record(self):
        attempt = {"id": self.attempt, "number": self.attempts, "worker": self.worker or "", "session": "s",
                   "dispatched_at": getattr(self, "started_at", self.at)}
        state = {"queued": {"wait_ms": 0}}
        if self.state == "running":
            state = {"dispatched": attempt}
        elif self.state == "done":
            ran = (self.ended_at - getattr(self, "started_at", self.ended_at)) * 900
            state = {"done": {"outcome": {"verdict": self.verdict, "output": {"text": '{"frames":1184,"bytes":90312}\n'},
                                          "stderr": "", "run_us": ran, "cpu_us": ran // 3, "log_dropped": 0},
                              "attempt": attempt, "ended_at": self.ended_at}}
        mib = 1 << 20
        return {"id": self.id, "state": state, "attempts": self.attempts, "failures": 0, "losses": len(self.history),
                "history": self.history, "submitted_at": self.at,
                "spec": {"module": {"name": self.module, "digest": "sha256:" + "cb8d8042" * 8},
                         "input": {"text": '{"from":1,"to":90000000}'}, "group": self.group, "priority": 50,
                         "grants": {"env": {"STAGE": "test"}, "http": ["example.com"], "dir_bytes": 64 * mib},
                         "limits": {"timeout_ms": 3_600_000, "memory_bytes": 128 * mib, "output_bytes": 64 * mib,
                                    "cpu_ms": 604_800_000, "queue_ms": 604_800_000, "log_bytes": 16 * mib,
                                    "checkpoint_bytes": 16 * mib},
                         "retry": {"attempts_max": 1, "backoff_ms": 1000, "backoff_max_ms": 60000},
                         "on_worker_lost": "redispatch"}}


class Worker:
    """A worker with its lease."""

    def __init__(self, rng, name, group, at, labels):
        self.name, self.group, self.labels = name, group, labels
        self.slots = rng.choice([2, 4, 4, 8])
        self.standing, self.linked, self.transport, self.unwell = "live", True, "quic", None
        self.version = "0.2.0" if rng.random() > 0.1 else "0.1.9"
        self.renewed_at = at - rng.randrange(RENEW_MS)
        self.tasks = {}
        self.silent_until = 0

    def shown(self):
        return {"worker": self.name, "group": self.group, "standing": self.standing, "linked": self.linked,
                "transport": self.transport if self.linked else None, "slots": self.slots,
                "running": len(self.tasks), "memory_total": 23_128_580_096, "version": self.version,
                "labels": self.labels, "renewed_at": self.renewed_at, "lease_ms": LEASE_MS, "unwell": self.unwell}


class Fleet:
    """All of it. `step` moves it on to the present; `changes` says what is new since the last call."""

    def __init__(self, workers=24, tasks=600, hostile=False, seed=7):
        self.rng, self.lock = random.Random(seed), threading.RLock()
        self.workers, self.tasks, self.queues = {}, {}, {group: [] for group in GROUPS + ["gpu-lab"]}
        self.ended = {"completed": 0, "failed": 0, "cancelled": 0, "lost": 0}
        self.series, self.second = [], {"completed": 0, "failed": 0, "failovers": 0}
        self.dirty_tasks, self.dirty_workers, self.groups_seen = set(), set(), {}
        at = now_ms()
        self.at, self.second_at, self.next_loss = at, at // 1000 * 1000, at + 8_000
        self.build_workers(workers, at, hostile)
        self.build_past(tasks, at, hostile)
        self.rate = min(60, max(8, workers / 2.4))
        for _ in range(int(workers * 3)):
            self.submit(at)
        for _ in range(5):
            self.put(Task(self, "gpu-lab", "train:1", at - self.rng.randrange(600_000), 9_000))
        for i in range(600):
            base = self.rate * (0.7 + 0.25 * math.sin(i / 70) ** 2 + 0.35 * self.rng.random())
            lost = i in (97, 311, 312, 480)
            self.series.append([self.second_at - (600 - i) * 1000, int(base * (0.3 if lost else 1)),
                                int(self.rng.random() < 0.12) + (2 if lost else 0), int(lost)])

    def identifier(self, length):
        return "".join(self.rng.choice(ALPHABET) for _ in range(length))

    def build_workers(self, count, at, hostile):
        zones = {"edge-eu": "ber", "edge-us": "nyc", "edge-ap": "sgp", "batch": "hel"}
        for i in range(count):
            group = GROUPS[i % 4]
            labels = {"zone": f"{zones[group]}-{i % 3 + 1}", "arch": self.rng.choice(["amd64", "arm64"])}
            worker = Worker(self.rng, f"{zones[group]}-w{i // 4 + 1}", group, at, labels)
            if i % 11 == 7:
                worker.transport = "tcp"
            self.workers[worker.name] = worker
        names = list(self.workers)
        self.workers[names[3]].standing = "cordoned"
        self.workers[names[9]].standing = "draining"
        self.workers[names[5]].unwell = "disk: 212 MiB are left in /var/lib/muster; remove files or enlarge it"
        self.workers[names[14]].linked = False
        if hostile:
            for name in (HOSTILE, LONG, "__proto__"):
                worker = Worker(self.rng, name, "edge-eu", at, {"__proto__": HOSTILE, HOSTILE: LONG})
                worker.unwell = HOSTILE
                self.workers[name] = worker

    def build_past(self, count, at, hostile):
        names = list(self.workers)
        for i in range(count):
            began = at - int((i + 1) * 3_600_000 / count) - 4_000
            group = self.rng.choice(GROUPS)
            length = self.rng.randrange(300, 9_000)
            task = Task(self, group, self.rng.choice(MODULES), began, length)
            if hostile and i < 3:
                task.module, task.group = HOSTILE, HOSTILE
            worker = self.workers[self.rng.choice(names)]
            task.dispatch(self, worker, began + self.rng.randrange(5, 900))
            if i % 23 == 4:
                task.lose(task.started_at + 6_000)
                del worker.tasks[task.id]
                worker = self.workers[self.rng.choice(names)]
                task.dispatch(self, worker, task.timeline[-1]["at_ms"] + 700)
            verdict, reason = self.verdict()
            task.end(task.started_at + length, verdict, HOSTILE if hostile and i < 3 else reason)
            del worker.tasks[task.id]
            self.tasks[task.id] = task
            self.ended["completed" if verdict == "completed" else "failed"] += 1
        self.make_story(at)

    def make_story(self, at):
        """A task that lost two workers and then completed: the one of the screenshots."""
        story = Task(self, "edge-eu", "transcode:1.4", at - 62_000, 22_000)
        story.id = "01m8g7b6pnyebwba8a0h18t54m"
        live = [worker for worker in self.workers.values() if worker.group == "edge-eu"]
        start = at - 59_800
        for i, (wait, length) in enumerate([(0, 14_500), (1_300, 11_200), (900, 17_400)]):
            start += wait
            story.dispatch(self, live[i], start)
            for k in range(2, int(length / 1000) - (4 if i < 2 else 0), 2):
                story.note(start + k * 1000, "checkpoint", live[i].name, "")
            start += length
            if i < 2:
                story.lose(start)
            else:
                story.end(start, "completed", "completed")
            del live[i].tasks[story.id]
        self.tasks[story.id] = story

    def verdict(self):
        roll = self.rng.random()
        if roll > 0.05:
            return "completed", "completed"
        return self.rng.choice([("failed", "exit code 1: the order has no lines"),
                                ("trapped", "trapped: wasm `unreachable` instruction executed"),
                                ("timed out", "killed at its time limit of 3600000 ms")])

    def put(self, task):
        self.tasks[task.id] = task
        if task.group == "gpu-lab":
            task.why = "no worker of group gpu-lab is connected to this master and takes new attempts"
        self.queues[task.group].append(task)
        self.dirty_tasks.add(task.id)

    def submit(self, at):
        group = self.rng.choices(GROUPS, [5, 3, 2, 3])[0]
        self.put(Task(self, group, self.rng.choice(MODULES), at, self.rng.randrange(500, 10_000)))

    def step(self):
        with self.lock:
            at = now_ms()
            for _ in range(int((at - self.at) / 1000 * self.rate + self.rng.random())):
                self.submit(at)
            self.at = at
            for worker in self.workers.values():
                self.step_worker(worker, at)
            if at > self.next_loss:
                self.next_loss = at + 20_000
                self.silence(self.rng.choice([w for w in self.workers.values() if w.standing == "live" and w.tasks]
                                             or list(self.workers.values())))
            self.place(at)
            while at - self.second_at >= 1000:
                self.series.append([self.second_at, *self.second.values()])
                self.series = self.series[-600:]
                self.second, self.second_at = dict.fromkeys(self.second, 0), self.second_at + 1000

    def silence(self, worker):
        worker.silent_until = self.at + 14_000

    def step_worker(self, worker, at):
        if worker.silent_until > at:
            if worker.standing != "lost" and at - worker.renewed_at > LOST_AFTER_MS:
                worker.standing, worker.linked = "lost", False
                self.second["failovers"] += 1
                for task in list(worker.tasks.values()):
                    task.lose(at)
                    self.queues[task.group].insert(0, task)
                    self.dirty_tasks.add(task.id)
                worker.tasks.clear()
                self.dirty_workers.add(worker.name)
            return
        if worker.standing == "lost":
            worker.standing, worker.linked = "live", True
        if at - worker.renewed_at >= RENEW_MS:
            worker.renewed_at = at - self.rng.randrange(40)
            self.dirty_workers.add(worker.name)
        for task in list(worker.tasks.values()):
            if at >= task.next_checkpoint:
                task.note(at, "checkpoint", worker.name, "")
                task.next_checkpoint = at + 1_500
            if at >= task.ends_at:
                verdict, reason = self.verdict()
                self.finish(task, at, verdict, reason)

    def finish(self, task, at, verdict, reason):
        task.end(at, verdict, reason)
        if task.worker in self.workers:
            self.workers[task.worker].tasks.pop(task.id, None)
            self.dirty_workers.add(task.worker)
        word = verdict if verdict in ("completed", "cancelled") else "failed"
        self.ended[word] += 1
        if word in self.second:
            self.second[word] += 1
        self.dirty_tasks.add(task.id)

    def place(self, at):
        for worker in self.workers.values():
            queue = self.queues.get(worker.group)
            while queue and worker.standing == "live" and worker.linked and len(worker.tasks) < worker.slots:
                task = queue.pop(0)
                task.dispatch(self, worker, at)
                self.dirty_tasks.add(task.id)
                self.dirty_workers.add(worker.name)

    def groups(self):
        for name, queue in self.queues.items():
            mine = [worker for worker in self.workers.values() if worker.group == name]
            yield {"group": name, "queued": len(queue), "running": sum(len(worker.tasks) for worker in mine),
                   "workers": len(mine), "oldest_ms": min((task.at for task in queue), default=None),
                   "why": queue[0].why if queue else None}

    def totals(self):
        return {"open": {"queued": sum(map(len, self.queues.values())),
                         "running": sum(len(worker.tasks) for worker in self.workers.values())},
                "ended": dict(self.ended)}

    def newest(self):
        return sorted(self.tasks.values(), key=lambda task: (-task.at, task.id))

    def snapshot(self):
        with self.lock:
            return {"fleet": "muster", "master": "m1", "version": "0.2.0", "now_ms": now_ms(),
                    "groups": list(self.groups()), "workers": [worker.shown() for worker in self.workers.values()],
                    **self.totals(), "series": self.series, "tasks": [task.shown() for task in self.newest()[:200]]}

    def changes(self):
        """What changed since the last call. Only the one loop that broadcasts calls it."""
        with self.lock:
            groups = {group["group"]: group for group in self.groups()}
            change = {"now_ms": now_ms(), **self.totals(),
                      "groups": [group for name, group in groups.items() if group != self.groups_seen.get(name)],
                      "workers": [self.workers[name].shown() for name in self.dirty_workers],
                      "tasks": [self.tasks[task].shown() for task in self.dirty_tasks],
                      "series": self.series[-3:]}
            self.groups_seen = groups
            self.dirty_workers, self.dirty_tasks = set(), set()
            return change
