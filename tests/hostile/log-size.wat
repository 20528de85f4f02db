;; Writes more log than its limit on the size, but slowly enough for its limit on the rate.
;; in: command
;; ends: timed_out
;; limits: {"log_bytes": 5000}
;; dropped: log
(func (export "_start")
  (i32.store (i32.const 80) (i32.const 1))
  (i64.store (i32.const 88) (i64.const 10000000))
  (loop $again
    (call $say (i32.const 2) (i32.const 1024) (i32.const 1000))
    (drop (call $poll (i32.const 64) (i32.const 256) (i32.const 1) (i32.const 512)))
    (br $again)))
