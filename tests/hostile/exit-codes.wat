;; Exits with a code that is none.
;; in: command
;; ends: failed
(func (export "_start") (call $exit (i32.const -2147483648)))
