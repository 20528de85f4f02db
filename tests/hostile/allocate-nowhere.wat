;; Makes the host write its input beyond the guest's memory.
;; in: world
;; ends: trapped realloc return
(module
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const -8))
  (func (export "run") (param i32 i32) (result i32) unreachable)
  )
