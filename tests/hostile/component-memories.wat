;; Is a component of 21 core instances, each with a memory.
;; in: module
;; ends: rejected 21 Wasm linear memories
(component
  (core module $m (memory 1))
  {each 20: (core instance (instantiate $m))}
  (core module $r
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
    (func (export "run") (param i32 i32) (result i32) unreachable))
  (core instance $i (instantiate $r))
  (func (export "run") (param "input" (list u8)) (result (result (list u8) (error string)))
    (canon lift (core func $i "run") (memory (core memory $i "memory")) (realloc (core func $i "realloc")))))
