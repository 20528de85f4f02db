;; Declares a memory with 64-bit addresses.
;; in: module
;; ends: rejected memory64
(module (memory i64 1) (func (export "_start")))
