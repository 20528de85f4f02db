;; Declares several memories.
;; in: module
;; ends: rejected multiple memories
(module (memory 1) (memory 1) (func (export "_start")))
