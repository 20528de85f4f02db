;; Asks for memory that threads share.
;; in: module
;; ends: rejected
(module (memory 1 2 shared) (func (export "_start")))
