;; Requests random bytes for ever.
;; in: command
;; ends: timed_out
(func (export "_start")
  (loop $again (drop (call $random (i32.const 1024) (i32.const 65536))) (br $again)))
