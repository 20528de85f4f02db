;; Fills all its memory again and again, each time with a single instruction, which nothing interrupts.
;; in: command
;; ends: timed_out
(func (export "_start")
  (drop (memory.grow (i32.const 200)))
  (loop $again
    (memory.fill (i32.const 0) (i32.const 1) (i32.const 13107200))
    (br $again)))
