;; Lets a table grow until it may not, and dies of it.
;; in: command
;; ends: over_limit table_elements
(table $table 1 funcref)
(func (export "_start")
  (loop $again
    (br_if $again (i32.ne (table.grow $table (ref.null func) (i32.const 1000)) (i32.const -1))))
  unreachable)
