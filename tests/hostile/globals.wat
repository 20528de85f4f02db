;; Has ten thousand globals, all of which every instance has to have.
;; in: module
;; ends: completed
(module
  {each 10000: (global (mut i64) (i64.const 7))}
  (func (export "_start")))
