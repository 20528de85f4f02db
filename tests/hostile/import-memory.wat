;; Imports a memory from the host.
;; in: module
;; ends: rejected the import `env.memory` is a memory
(module (import "env" "memory" (memory 1)) (func (export "_start")))
