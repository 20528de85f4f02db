// Addresses within the page: #/, #/tasks?state=failed, #/task/ID, #/worker/NAME, #/modules. Must never trust
// what an address says: names in it are text like all others.

// The view of an address, the name that it is about, and its query.
export function parse(hash) {
  const [path, query = ''] = hash.replace(/^#\/?/, '').split('?', 2);
  const [view = '', name = ''] = path.split('/', 2);
  return { view: view || 'fleet', name: decode(name), query: new URLSearchParams(query) };
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

export const toFleet = () => '#/';
export const toTask = (id) => `#/task/${encodeURIComponent(id)}`;
export const toWorker = (name) => `#/worker/${encodeURIComponent(name)}`;
export const toModules = () => '#/modules';

export function toTasks(filters = {}) {
  const query = new URLSearchParams(Object.entries(filters).filter(([, value]) => value));
  return query.size ? `#/tasks?${query}` : '#/tasks';
}
