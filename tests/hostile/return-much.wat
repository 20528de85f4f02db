;; Returns an output that is larger than its limit.
;; in: task
;; ends: over_limit output_bytes
(drop (memory.grow (i32.const 20)))
  (call $result (i32.const 0) (i32.const 0) (i32.const 1000000))
