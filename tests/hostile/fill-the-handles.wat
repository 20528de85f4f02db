;; Opens one file again and again, and never closes it.
;; in: command
;; ends: over_limit handles
;; grants: {"dir_bytes": 1048576}
;; limits: {"timeout_ms": 10000}
(data (i32.const 1024) "file")
(func (export "_start")
  (loop $again
    (drop (call $open
    (i32.const 3) (i32.const 0) (i32.const 1024) (i32.const 4) (i32.const 1)
    (i64.const 64) (i64.const 64) (i32.const 0) (i32.const 512)))
    (br $again)))
