;; Computes a little and sleeps a little in turn, so that only the sum of its processor time is over the limit.
;; in: command
;; ends: over_limit cpu_ms
;; limits: {"cpu_ms": 60, "timeout_ms": 10000}
(func (export "_start") (local $left i32)
  (i32.store (i32.const 80) (i32.const 1))
  (i64.store (i32.const 88) (i64.const 1000000))
  (loop $again
    (local.set $left (i32.const 3000000))
    (loop $compute
      (br_if $compute (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
    (drop (call $poll (i32.const 64) (i32.const 256) (i32.const 1) (i32.const 512)))
    (br $again)))
