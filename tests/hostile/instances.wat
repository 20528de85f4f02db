;; Is a component of a hundred instances.
;; in: module
;; ends: rejected 101 core module instances
(component
  (core module $m)
  {each 100: (core instance (instantiate $m))}
  (core module $r
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
    (func (export "run") (param i32 i32) (result i32) unreachable))
  (core instance $i (instantiate $r))
  (func (export "run") (param "input" (list u8)) (result (result (list u8) (error string)))
    (canon lift (core func $i "run") (memory (core memory $i "memory")) (realloc (core func $i "realloc")))))
