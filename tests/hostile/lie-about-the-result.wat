;; Returns four gigabytes from the end of its memory.
;; in: task
;; ends: trapped out of bounds
(call $result (i32.const 0) (i32.const -16) (i32.const -1))
