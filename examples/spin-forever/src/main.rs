//! A guest that never ends, never prints and never calls the worker, for showing that it can be
//! stopped all the same. It must never reach a host call, where it would be easy to stop.

fn main() {
    let mut turn = 0_u64;
    loop {
        // Without this the compiler is free to think the loop does nothing.
        turn = std::hint::black_box(turn.wrapping_add(1));
    }
}
