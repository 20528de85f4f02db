;; Calls the host from the very end of its stack.
;; in: command
;; ends: over_limit stack_bytes
(data (i32.const 1024) "deep")
(func $down
  (call $say (i32.const 2) (i32.const 1024) (i32.const 4))
  (call $down))
(func (export "_start") (call $down))
