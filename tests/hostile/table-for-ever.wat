;; Grows a table until that fails, and then traps.
;; in: command
;; ends: over_limit table_elements
(table $table 1 funcref)
(func (export "_start")
  (loop $again
    (br_if $again (i32.ne (table.grow $table (ref.null func) (i32.const 1000)) (i32.const -1))))
  unreachable)
