// The one loop that makes time visible: lease bars and ages. Must never run while nothing is registered or
// while the page is hidden.

// Twenty steps a second move a bar by about one pixel each; more would cost power and show nothing.
const FAST_MS = 50;

// For readers who asked for less motion.
const CALM_MS = 500;

const calm = matchMedia('(prefers-reduced-motion: reduce)');
const fast = new Set();
const slow = new Set();
let frame = 0;
let fastAt = 0;
let slowAt = 0;

function run(at) {
  frame = requestAnimationFrame(run);
  if (at - fastAt >= (calm.matches ? CALM_MS : FAST_MS) - 4) {
    fastAt = at;
    for (const tick of fast) tick();
  }
  if (at - slowAt >= 1_000) {
    slowAt = at;
    for (const tick of slow) tick();
  }
}

function register(set, tick) {
  set.add(tick);
  if (!frame) frame = requestAnimationFrame(run);
  return () => {
    set.delete(tick);
    if (fast.size + slow.size === 0) {
      cancelAnimationFrame(frame);
      frame = 0;
    }
  };
}

// Calls `tick` for each step of a bar. Returns the function that ends this.
export const eachStep = (tick) => register(fast, tick);

// Calls `tick` once a second. Returns the function that ends this.
export const eachSecond = (tick) => register(slow, tick);
