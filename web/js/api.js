// Requests to the master. An error is always a sentence, and what to do about it if the master knows. Must
// never keep an answer: the store and the views do that.

// A master answers at once or not at all; a reader should learn of it before giving up.
const TIMEOUT_MS = 15_000;

export class ApiError extends Error {
  constructor(message, hint, status) {
    super(message);
    this.hint = hint ?? null;
    this.status = status ?? 0;
  }
}

// The words for a failed request without an answer of the master's own.
function silentError(error) {
  return error?.name === 'TimeoutError'
    ? new ApiError(`The master did not answer within ${TIMEOUT_MS / 1_000} s.`)
    : new ApiError('The master cannot be reached.', 'The page tries again when the connection is back.');
}

async function request(method, path, token) {
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  let answer;
  try {
    answer = await fetch(path, { method, headers, cache: 'no-store', signal: AbortSignal.timeout(TIMEOUT_MS) });
  } catch (error) {
    throw silentError(error);
  }
  if (answer.status === 204) return null;
  let body = null;
  try {
    body = await answer.json();
  } catch {
    // Below, an answer that is no JSON counts as an error without words.
  }
  if (answer.ok && body !== null) return body;
  throw new ApiError(body?.error ?? `The master answered with status ${answer.status}.`, body?.hint, answer.status);
}

const get = (path, token) => request('GET', path, token);
const post = (path, token) => request('POST', path, token);

export function tasks({ state, group, before, limit }) {
  const query = new URLSearchParams({ limit });
  if (state) query.set('state', state);
  if (group) query.set('group', group);
  if (before) query.set('before', typeof before === 'string' ? before : JSON.stringify(before));
  return get(`api/tasks?${query}`);
}

export const task = (id) => get(`api/task/${encodeURIComponent(id)}`);
export const logPath = (id) => `api/task/${encodeURIComponent(id)}/log`;
export const modules = () => get('api/modules');
export const self = (token) => get('api/self', token);
export const cancelTask = (id, token) => post(`api/task/${encodeURIComponent(id)}/cancel`, token);
export const commandWorker = (name, command, token) =>
  post(`api/worker/${encodeURIComponent(name)}/${command}`, token);
