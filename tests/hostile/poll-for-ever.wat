;; Asks for a timer that is due at once, again and again.
;; in: command
;; ends: timed_out
(func (export "_start")
  (i32.store (i32.const 80) (i32.const 1))
  (i64.store (i32.const 88) (i64.const 0))
  (loop $again
    (drop (call $poll (i32.const 64) (i32.const 256) (i32.const 1) (i32.const 512)))
    (br $again)))
