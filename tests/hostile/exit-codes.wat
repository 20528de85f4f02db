;; Exits with an invalid exit code.
;; in: command
;; ends: failed
(func (export "_start") (call $exit (i32.const -2147483648)))
