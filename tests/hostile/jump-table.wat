;; Has a jump table of a hundred thousand targets in each of many functions.
;; in: module
;; ends: rejected `br_table` has
(module
  {each 10: (func (param i32) (block (br_table {each 100000: 0} (local.get 0))))}
  (func (export "_start")))
