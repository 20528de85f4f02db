;; Declares the largest possible memory.
;; in: module
;; ends: over_limit memory_bytes
(module (memory 65536) (func (export "_start")))
