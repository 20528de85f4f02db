;; Saves a checkpoint again and again. Each one is a write to the registry.
;; in: task
;; ends: timed_out
(loop $again (call $checkpoint (i32.const 1024) (i32.const 4)) (br $again)) unreachable
