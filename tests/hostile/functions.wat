;; Has more functions than any real program.
;; in: module
;; ends: rejected 200002 functions
(module
  {each 200001: (func)}
  (func (export "_start")))
