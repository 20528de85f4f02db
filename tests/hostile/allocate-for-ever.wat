;; Computes for ever while the host asks it where to put the input.
;; in: world
;; ends: timed_out
(module
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (loop $again (br $again)) unreachable)
  (func (export "run") (param i32 i32) (result i32) unreachable)
  )
