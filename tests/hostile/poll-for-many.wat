;; Waits for sixteen thousand timers at once.
;; in: command
;; ends: over_limit handles
(func (export "_start") (local $at i32)
  (drop (memory.grow (i32.const 40)))
  (local.set $at (i32.const 65536))
  (loop $again
    (i32.store offset=16 (local.get $at) (i32.const 1))
    (i64.store offset=24 (local.get $at) (i64.const 3600000000000))
    (local.set $at (i32.add (local.get $at) (i32.const 48)))
    (br_if $again (i32.lt_u (local.get $at) (i32.const 851968))))
  (call $exit (call $poll (i32.const 65536) (i32.const 1048576) (i32.const 16384) (i32.const 512))))
