;; Has more functions than any program.
;; in: module
;; ends: rejected
(module
  {each 200001: (func)}
  (func (export "_start")))
