;; Has more types than any real program.
;; in: module
;; ends: rejected 20001 types
(module
  {each 20001: (type (func))}
  (func (export "_start")))
