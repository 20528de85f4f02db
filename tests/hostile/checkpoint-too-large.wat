;; Saves a checkpoint that is larger than its limit.
;; in: task
;; ends: over_limit checkpoint_bytes
;; limits: {"checkpoint_bytes": 4096}
(call $checkpoint (i32.const 0) (i32.const 5000)) unreachable
