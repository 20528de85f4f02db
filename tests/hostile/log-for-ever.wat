;; Logs for ever.
;; in: task
;; ends: timed_out
;; dropped: log
(loop $again
  (call $log (i32.const 2) (i32.const 0) (i32.const 60000))
  (br $again)) unreachable
