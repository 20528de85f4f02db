;; Writes output for ever.
;; in: command
;; ends: over_limit output_bytes
(func (export "_start")
  (loop $again
    (call $say (i32.const 1) (i32.const 1024) (i32.const 4096))
    (br $again)))
