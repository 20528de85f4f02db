// A task: bytes in, bytes out. What it throws as a string is its error, in words for whoever
// submitted it. The worker's interface is in wit/world.wit; `fetch` needs "http": true in
// package.json, and the grant --allow-http.

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
