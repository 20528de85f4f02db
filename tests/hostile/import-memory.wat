;; Imports memory of its host.
;; in: module
;; ends: rejected
(module (import "env" "memory" (memory 1)) (func (export "_start")))
