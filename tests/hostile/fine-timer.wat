;; Looks for a clock that is fine enough for a timing attack on other guests.
;; in: command
;; ends: completed
(func (export "_start") (local $left i32)
  (local.set $left (i32.const 1000))
  (loop $again
    (if (call $clock_time (i32.const 1) (i64.const 1) (i32.const 64)) (then unreachable))
    (if (i64.ne (i64.const 0) (i64.rem_u (i64.load (i32.const 64)) (i64.const 1000000)))
      (then unreachable))
    (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1))))))
