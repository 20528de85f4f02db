;; Fills a table again and again, each time with a single instruction.
;; in: command
;; ends: timed_out
(table $table 90000 funcref)
(func (export "_start")
  (loop $again
    (table.fill $table (i32.const 0) (ref.null func) (i32.const 90000))
    (br $again)))
