;; Nests loops so deep that compiling them takes minutes.
;; in: module
;; ends: rejected took over
(module (func (export "_start")
  {each 100000: (loop}
  {each 100000: )}))
