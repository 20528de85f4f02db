// What the page knows of the fleet: the last snapshot with all changes since. Must never fetch anything, and
// must never grow without a bound.

// Open tasks and the newest ended ones. A reader who pages through more loses the oldest ended ones.
const TASKS_MAX = 20_000;

// The throughput of ten minutes, one point a second, plus room for points that mark gaps.
const POINTS_MAX = 620;
const SPAN_MS = 600_000;

export class Store {
  fleet = '';
  master = '';
  version = '';
  // The version of the first snapshot, which is that of the page's own files.
  pageVersion = '';
  snapshots = 0;
  groups = new Map();
  workers = new Map();
  tasks = new Map();
  open = {};
  ended = {};
  // Columns for the chart: times in seconds, completed, failed, failovers.
  series = [[], [], [], []];

  #listeners = new Set();
  #changed = new Set();
  #frame = 0;

  // Replaces everything.
  snapshot(data) {
    this.snapshots += 1;
    this.fleet = data.fleet;
    this.master = data.master;
    this.version = data.version;
    this.pageVersion ||= data.version;
    this.groups = new Map();
    this.workers = new Map();
    this.tasks = new Map();
    this.series = [[], [], [], []];
    this.#merge(data);
    for (const part of ['snapshot', 'groups', 'workers', 'tasks', 'totals', 'series']) this.#touch(part);
  }

  // Applies a change: items replace those with the same key, points are appended.
  change(data) {
    if (data.version && data.version !== this.version) {
      this.version = data.version;
      this.#touch('snapshot');
    }
    this.#merge(data);
  }

  // Adds tasks that were loaded page by page. The stream may have said something newer meanwhile: the end of
  // a task, or a later attempt, stays.
  addTasks(tasks) {
    for (const task of tasks) {
      const known = this.tasks.get(task.id);
      if (!known || (known.ended_at === null && known.attempts <= task.attempts)) this.tasks.set(task.id, task);
    }
    this.#bound();
    this.#touch('tasks');
  }

  // Calls `listener` with the set of parts that changed, at most once a frame. Returns the function that
  // ends this.
  subscribe(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #merge(data) {
    if (put(this.groups, data.groups, 'group') | drop(this.groups, data.groups_gone)) this.#touch('groups');
    if (put(this.workers, data.workers, 'worker') | drop(this.workers, data.workers_gone)) this.#touch('workers');
    if (put(this.tasks, data.tasks, 'id') | drop(this.tasks, data.tasks_gone)) {
      this.#bound();
      this.#touch('tasks');
    }
    if (data.renewed) this.#renew(data.renewed);
    if (data.open || data.ended) {
      this.open = { ...this.open, ...data.open };
      this.ended = { ...this.ended, ...data.ended };
      this.#touch('totals');
    }
    if (data.series?.length) {
      this.#append(data.series);
      this.#touch('series');
    }
  }

  // Renewals alone, as [worker, renewed_at]. They move only the bars, which read them at their next step.
  #renew(pairs) {
    for (const [name, at] of pairs) {
      const worker = this.workers.get(name);
      if (worker) worker.renewed_at = at;
    }
  }

  #append(points) {
    const [times, ...columns] = this.series;
    for (const point of points) {
      const at = point[0] / 1_000;
      const last = times.at(-1);
      if (last !== undefined && at <= last) continue;
      // A gap is not known; a line across it would claim otherwise.
      if (last !== undefined && at - last > 2.5) {
        times.push(last + 1);
        for (const column of columns) column.push(null);
      }
      times.push(at);
      columns.forEach((column, i) => column.push(point[i + 1] ?? 0));
    }
    let old = Math.max(0, times.length - POINTS_MAX);
    while (times[old] < times.at(-1) - SPAN_MS / 1_000) old += 1;
    if (old > 0) for (const column of this.series) column.splice(0, old);
  }

  #bound() {
    if (this.tasks.size <= TASKS_MAX) return;
    const over = [...this.tasks.values()].filter((task) => task.ended_at !== null)
      .sort((a, b) => a.submitted_at - b.submitted_at);
    // A tenth at once, so that this is not done for each task.
    for (const task of over.slice(0, this.tasks.size - TASKS_MAX * 0.9)) this.tasks.delete(task.id);
  }

  #touch(part) {
    this.#changed.add(part);
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      const changed = this.#changed;
      this.#changed = new Set();
      for (const listener of this.#listeners) listener(changed);
    });
  }
}

function put(map, items, key) {
  for (const item of items ?? []) map.set(item[key], item);
  return (items?.length ?? 0) > 0;
}

function drop(map, keys) {
  let some = false;
  for (const key of keys ?? []) some = map.delete(key) || some;
  return some;
}
