;; Tries to leave its directory by a symbolic link.
;; in: command
;; ends: failed
;; grants: {"dir_bytes": 1048576}
(data (i32.const 1024) "/etc/passwd")
(data (i32.const 1088) "way")
(func (export "_start")
  ;; The link may also fail to be created: both ends are safe.
  (drop (call $symlink
    (i32.const 1024) (i32.const 11) (i32.const 3) (i32.const 1088) (i32.const 3)))
  (call $exit (call $open
    (i32.const 3) (i32.const 1) (i32.const 1088) (i32.const 3) (i32.const 0)
    (i64.const 2) (i64.const 2) (i32.const 0) (i32.const 64))))
