;; Has fifty thousand locals in each of many functions.
;; in: module
;; ends: completed
(module
  {each 100: (func (local {each 49000: i64}))}
  (func (export "_start")))
