;; Grows its memory page by page until that fails, and then traps.
;; in: command
;; ends: over_limit memory_bytes
(func (export "_start")
  (loop $again (br_if $again (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
  unreachable)
