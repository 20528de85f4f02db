;; Has 49,000 locals in each of a hundred functions.
;; in: module
;; ends: completed
(module
  {each 100: (func (local {each 49000: i64}))}
  (func (export "_start")))
