;; Writes empty lines for ever. Each one is a log message.
;; in: command
;; ends: timed_out
;; dropped: log
(data (i32.const 1024) "\n")
(func (export "_start")
  (loop $again
    (call $say (i32.const 2) (i32.const 1024) (i32.const 1))
    (br $again)))
