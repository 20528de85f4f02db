;; Imports a function that no worker has.
;; in: module
;; ends: rejected unknown import
(module (import "env" "system" (func (param i32) (result i32))) (func (export "_start")))
