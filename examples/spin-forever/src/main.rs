//! A guest that never ends, never prints and never calls the worker. It shows that the worker can stop
//! such a guest anyway. It must never call the host, because there it would be easy to stop.

fn main() {
    let mut turn = 0_u64;
    loop {
        // Without this the compiler is free to think the loop does nothing.
        turn = std::hint::black_box(turn.wrapping_add(1));
    }
}
