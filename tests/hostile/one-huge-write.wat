;; Writes two gigabytes in one call.
;; in: command
;; ends: failed
(func (export "_start")
  (i32.store (i32.const 0) (i32.const 1024))
  (i32.store (i32.const 4) (i32.const 2147483647))
  (call $exit (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
