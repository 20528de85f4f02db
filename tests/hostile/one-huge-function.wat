;; Has a function that takes more than linear time to compile.
;; in: module
;; ends: rejected bytes in one function, the limit is
(module (func (export "_start")
  {each 700000: (drop (i32.const 1))}))
