;; Keeps its state for ever, which is a write to the registry each time.
;; in: task
;; ends: timed_out
(loop $again (call $checkpoint (i32.const 1024) (i32.const 4)) (br $again)) unreachable
