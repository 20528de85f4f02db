;; Fails with a message that is not valid UTF-8.
;; in: task
;; ends: trapped invalid utf-8
(i32.store (i32.const 64) (i32.const -1))
  (call $result (i32.const 1) (i32.const 64) (i32.const 4))
