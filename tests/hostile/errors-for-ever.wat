;; Writes to standard error for ever.
;; in: command
;; ends: timed_out
;; dropped: log
(func (export "_start")
  (loop $again
    (call $say (i32.const 2) (i32.const 1024) (i32.const 65536))
    (br $again)))
