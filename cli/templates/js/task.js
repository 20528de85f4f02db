// A task takes bytes and returns bytes. If it throws a string, this is the error message for the submitter.
// The functions that the worker offers are in wit/world.wit. `fetch` needs "http": true in package.json, and
// the grant --allow-http.

import { log, progress } from "muster:task/host@0.1.0";

export function run(input) {
  const name = new TextDecoder().decode(input).trim();
  if (name === "") {
    throw "say whom to greet";
  }
  log("info", `greeting ${name}`);
  progress(1n, 1n);
  return new TextEncoder().encode(`Hello, ${name}!`);
}
