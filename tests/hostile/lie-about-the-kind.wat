;; Returns what is neither output nor error.
;; in: task
;; ends: trapped invalid expected discriminant
(call $result (i32.const 7) (i32.const 1024) (i32.const 4))
