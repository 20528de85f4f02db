;; Allocates and touches all the memory that it may have, and keeps it.
;; in: command
;; ends: timed_out
(func (export "_start") (local $at i32)
  (loop $again
    (if (i32.ne (memory.grow (i32.const 1)) (i32.const -1)) (then
      (i32.store (i32.mul (i32.sub (memory.size) (i32.const 1)) (i32.const 65536)) (i32.const 1))
      (br $again))))
  (loop $again (br $again)))
