;; Declares a memory that threads can share.
;; in: module
;; ends: rejected threads must be enabled
(module (memory 1 2 shared) (func (export "_start")))
