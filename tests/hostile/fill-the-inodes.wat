;; Creates empty files for ever.
;; in: command
;; ends: over_limit dir_entries
;; grants: {"dir_bytes": 33554432}
;; limits: {"timeout_ms": 30000}
(func (export "_start") (local $number i32)
  (loop $again
    (i32.store (i32.const 1024) (i32.or (i32.const 0x41414141)
      (i32.and (local.get $number) (i32.const 0x0f0f0f0f))))
    (i32.store (i32.const 1028) (i32.or (i32.const 0x41414141)
      (i32.and (i32.shr_u (local.get $number) (i32.const 4)) (i32.const 0x0f0f0f0f))))
    (local.set $number (i32.add (local.get $number) (i32.const 1)))
    (if (i32.eqz (call $open
    (i32.const 3) (i32.const 0) (i32.const 1024) (i32.const 8) (i32.const 1)
    (i64.const 64) (i64.const 64) (i32.const 0) (i32.const 512)))
      (then (drop (call $close (i32.load (i32.const 512))))))
    (br $again)))
