;; Logs all its memory in one call; the host would have to copy it.
;; in: task
;; ends: over_limit host_copy_bytes
;; limits: {"memory_bytes": 67108864, "checkpoint_bytes": 1024, "output_bytes": 1024}
(drop (memory.grow (i32.const 640)))
  (call $log (i32.const 2) (i32.const 0) (i32.const 40000000))
  unreachable
