;; Looks for files of the host without a granted directory.
;; in: command
;; ends: failed
(data (i32.const 1024) "../../../../etc/passwd")
(func (export "_start")
  (call $exit (call $open
    (i32.const 3) (i32.const 0) (i32.const 1024) (i32.const 22) (i32.const 0)
    (i64.const 2) (i64.const 2) (i32.const 0) (i32.const 64))))
