;; Writes for ever to a file that it has unlinked.
;; in: command
;; ends: over_limit dir_bytes
;; grants: {"dir_bytes": 1048576}
;; limits: {"timeout_ms": 10000}
(data (i32.const 1024) "file")
(func (export "_start") (local $fd i32)
  (if (call $open
    (i32.const 3) (i32.const 0) (i32.const 1024) (i32.const 4) (i32.const 1)
    (i64.const 64) (i64.const 64) (i32.const 0) (i32.const 512))
    (then unreachable))
  (local.set $fd (i32.load (i32.const 512)))
  (if (call $unlink (i32.const 3) (i32.const 1024) (i32.const 4)) (then unreachable))
  (loop $again
    (call $say (local.get $fd) (i32.const 4096) (i32.const 65536))
    (br $again)))
