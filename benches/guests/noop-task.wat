;; A task of the SDK's world that does nothing. It measures the cost of the world itself.
(module
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  ;; All zeros at 16: no error, no bytes.
  (func (export "run") (param i32 i32) (result i32) (i32.const 16)))
