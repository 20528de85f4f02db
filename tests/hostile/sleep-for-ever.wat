;; Sleeps for ever in one host call.
;; in: command
;; ends: timed_out
(func (export "_start")
  (i32.store (i32.const 80) (i32.const 1))
  (i64.store (i32.const 88) (i64.const 9223372036854775807))
  (drop (call $poll (i32.const 64) (i32.const 256) (i32.const 1) (i32.const 512))))
