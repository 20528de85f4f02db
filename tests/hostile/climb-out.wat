;; Tries to leave its directory by a path.
;; in: command
;; ends: failed
;; grants: {"dir_bytes": 1048576}
(data (i32.const 1024) "../../../../../../../../etc/passwd")
(func (export "_start")
  (call $exit (call $open
    (i32.const 3) (i32.const 1) (i32.const 1024) (i32.const 34) (i32.const 0)
    (i64.const 2) (i64.const 2) (i32.const 0) (i32.const 64))))
