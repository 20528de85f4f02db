;; Creates directories in directories for ever, deeper than the longest path.
;; in: command
;; ends: over_limit dir_depth
;; grants: {"dir_bytes": 33554432}
;; limits: {"timeout_ms": 10000}
(data (i32.const 1024) "d")
(func (export "_start") (local $fd i32)
  (local.set $fd (i32.const 3))
  (loop $again
    (drop (call $mkdir (local.get $fd) (i32.const 1024) (i32.const 1)))
    (if (call $open
      (local.get $fd) (i32.const 0) (i32.const 1024) (i32.const 1) (i32.const 2)
      (i64.const 25088) (i64.const 25088) (i32.const 0) (i32.const 512))
      (then (loop $wait (br $wait))))
    (drop (call $close (local.get $fd)))
    (local.set $fd (i32.load (i32.const 512)))
    (br $again)))
