;; Reads beyond its memory.
;; in: command
;; ends: trapped out of bounds memory access
(func (export "_start") (drop (i64.load offset=4294967295 (i32.const -1))))
