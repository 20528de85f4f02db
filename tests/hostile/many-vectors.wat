;; Passes a list of two billion pieces to one write.
;; in: command
;; ends: failed
(func (export "_start")
  (call $exit (call $write (i32.const 1) (i32.const 0) (i32.const 2147483647) (i32.const 8))))
