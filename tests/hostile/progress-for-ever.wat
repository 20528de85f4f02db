;; Reports progress for ever.
;; in: task
;; ends: timed_out
(loop $again (call $progress (i64.const 1) (i64.const -1)) (br $again)) unreachable
