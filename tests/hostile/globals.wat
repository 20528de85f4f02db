;; Has ten thousand globals, and every instance needs all of them.
;; in: module
;; ends: completed
(module
  {each 10000: (global (mut i64) (i64.const 7))}
  (func (export "_start")))
